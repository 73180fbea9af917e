from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer_py.ratelimit.rules import Rules, rule_name

TEXT = """\
domain: shop
descriptors:
  - key: tenant
    value: gold
    rate_limit: {unit: minute, requests_per_unit: 5, name: golden}
    descriptors:
      - key: path
        shadow_mode: true
        rate_limit: {unit: DAY, requests_per_unit: 7}
  - key: house
    rate_limit: {unlimited: true}
  - key: model
    value: small-*
    share_threshold: true
    descriptors:
      - key: user
        value_to_metric: true
        quota_mode: true
        metadata: {model: small, weights: [1, 2.5, null]}
        rate_limit:
          window: 90s
          requests_per_unit: 100
          algorithm: token_bucket
          burst: 20
          lease: 10%
          name: small
          replaces: [{name: large}, {name: golden}]
"""


def rules(text: str = TEXT, file: str = "shop.yaml") -> Rules:
    return Rules.parse([(file, text.encode())])


def match(compiled: Rules, *entries: tuple[str, str]) -> str | None:
    rule, _ = compiled.domains["shop"].match([SimpleNamespace(key=key, value=value) for key, value in entries])
    return rule.name if rule else None


def test_describe_says_everything() -> None:
    described = rules().describe()
    assert described[1] == {
        "rule": "shop/tenant=gold/path",
        "domain": "shop",
        "descriptors": [{"key": "tenant", "value": "gold"}, {"key": "path"}],
        "name": "",
        "unit": "DAY",
        "window": "1d",
        "requests_per_unit": 7,
        "algorithm": "fixed_window",
        "burst": 7,
        "lease": 0,
        "overdraw": False,
        "lease_bounds": {},
        "unlimited": False,
        "shadow_mode": True,
        "quota_mode": False,
        "metadata": {},
        "replaces": [],
        "place": "shop.yaml:7",
    }
    assert described[3] == {
        "rule": "shop/model=small-*/user",
        "domain": "shop",
        "descriptors": [
            {"key": "model", "value": "small-*", "share_threshold": True},
            {"key": "user", "value_to_metric": True},
        ],
        "name": "small",
        "unit": "",
        "window": "90s",
        "requests_per_unit": 100,
        "algorithm": "token_bucket",
        "burst": 20,
        "lease": 2,
        "overdraw": False,
        "lease_bounds": {
            "over_admission": {"each_worker": 2, "at_most": 120},
            "under_admission": {"each_worker": 20, "at_most": 120},
        },
        "unlimited": False,
        "shadow_mode": False,
        "quota_mode": True,
        "metadata": {"model": "small", "weights": [1, 2.5, None]},
        "replaces": ["golden", "large"],
        "place": "shop.yaml:16",
    }


def test_dump_has_the_originals_form() -> None:
    assert rules().dump().splitlines() == [
        "shop.tenant_gold: unit=MINUTE requests_per_unit=5, shadow_mode: false",
        "shop.tenant_gold.path: unit=DAY requests_per_unit=7, shadow_mode: true",
        "shop.house: unit=UNKNOWN requests_per_unit=0, shadow_mode: false, unlimited: true",
        (
            "shop.model_small-*.user: unit=UNKNOWN requests_per_unit=100, shadow_mode: false, quota_mode: true, "
            "window: 90s, algorithm: token_bucket, burst: 20, lease: 2, over_admission: 2 each worker up to 120"
        ),
    ]


def test_revision_follows_the_rules_and_not_their_text() -> None:
    revision = rules().revision
    assert len(revision) == 12
    assert rules("# a comment\n" + TEXT, "other.yaml").revision == revision
    assert rules(TEXT.replace("unit: 5", "unit: 6")).revision != revision
    assert rules(TEXT.replace("domain: shop", "domain: shops")).revision != revision
    exempt = TEXT + "  - {key: tenant, value: house}\n"
    assert rules(exempt).revision != revision
    assert rules(exempt.replace("value: house", "value: home")).revision != rules(exempt).revision
    for old, new in (
        ("quota_mode: true", "quota_mode: false"),
        ("value_to_metric: true", "detailed_metric: false"),
        ("share_threshold: true", "share_threshold: false"),
        ("model: small,", "model: tiny,"),
        ("window: 90s", "window: 91s"),
        ("token_bucket\n          burst: 20", "sliding_window"),
        ("burst: 20", "burst: 21"),
        ("lease: 10%", "lease: 3"),
        ("{name: large}", "{name: huge}"),
    ):
        assert old in TEXT
        assert rules(TEXT.replace(old, new)).revision != revision, old


def test_entries_come_back_for_the_counter() -> None:
    compiled = rules()
    entries = [SimpleNamespace(key="tenant", value="gold"), SimpleNamespace(key="path", value="/")]
    assert compiled.domains["shop"].match(entries)[1] == ("tenant", "gold", "path", "/")


@pytest.mark.parametrize(
    ("block", "unit", "window"),
    [
        ("unit: minute", "MINUTE", 60),
        ("unit: Minute, unit_multiplier: 1", "MINUTE", 60),
        ("unit: minute, unit_multiplier: 5", "", 300),
        ("unit: minute, unit_multiplier: 60", "HOUR", 3600),
        ("window: 60s", "MINUTE", 60),
        ("window: 1m30s", "", 90),
        ("window: 1500ms", "", 1.5),
        ("window: 3650d", "", 315_360_000),
        ("unlimited: true", "", 0),
    ],
)
def test_windows(block: str, unit: str, window: float) -> None:
    """`unit` is told to Envoy, so it is named only where it says how long the window is."""
    (rule,) = rules(f"domain: shop\ndescriptors: [{{key: a, rate_limit: {{{block}}}}}]")
    assert (rule.unit, rule.window_us) == (unit, window * 1_000_000)


@pytest.mark.parametrize(
    ("block", "burst", "lease"),
    [
        ("requests_per_unit: 50", 50, 0),
        ("requests_per_unit: 50, lease: 5", 50, 5),
        ("requests_per_unit: 50, lease: 5%", 50, 2),
        ("requests_per_unit: 50, lease: 0.5 %", 50, 1),
        ("requests_per_unit: 50, lease: 100%", 50, 50),
        ("requests_per_unit: 50, algorithm: token_bucket", 50, 0),
        ("requests_per_unit: 50, algorithm: token_bucket, burst: 200, lease: 10%", 200, 20),
        ("requests_per_unit: 50, algorithm: token_bucket, burst: 1, lease: 1", 1, 1),
        ("unlimited: true, requests_per_unit: 5", 5, 0),
    ],
)
def test_bursts_and_leases(block: str, burst: int, lease: int) -> None:
    unit = "" if "unlimited" in block else "unit: day, "
    (rule,) = rules(f"domain: shop\ndescriptors: [{{key: a, rate_limit: {{{unit}{block}}}}}]")
    assert (rule.burst, rule.lease) == (burst, lease)


def test_metadata_is_any_mapping() -> None:
    text = "{a: {b: [1, 0x10, 1.5, yes, ~, 2024-01-01, '5']}, <<: {c: d}}"
    (rule,) = rules(f"domain: shop\ndescriptors: [{{key: a, metadata: {text}, rate_limit: {{unit: day}}}}]")
    assert rule.metadata == {"a": {"b": [1, 16, 1.5, True, None, "2024-01-01", "5"]}, "c": "d"}


PATHS = st.lists(st.tuples(st.text(' ab/="()…\n', min_size=1, max_size=3), st.text(' ab/="()', max_size=3)), max_size=3)


@given(
    st.tuples(st.text("a/()", min_size=1, max_size=3), PATHS), st.tuples(st.text("a/()", min_size=1, max_size=3), PATHS)
)
def test_names_differ_where_rules_do(one: tuple, other: tuple) -> None:
    assert (rule_name(*one) == rule_name(*other)) == (one == other)
    assert "(override)" not in rule_name(*one).replace('"(override)"', "").split("/")


def test_long_names_are_cut_and_still_differ() -> None:
    names = {rule_name("shop", [("k", "v" * 5000 + end)]) for end in "ab"}
    assert len(names) == 2
    assert all(len(name.encode()) <= 2048 for name in names)

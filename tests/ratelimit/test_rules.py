from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer_py.ratelimit.rules import Rules, matches, rule_name

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
"""


def rules(text: str = TEXT, file: str = "shop.yaml") -> Rules:
    return Rules.parse([(file, text.encode())])


def match(compiled: Rules, *entries: tuple[str, str]) -> str | None:
    rule, _ = compiled.domains["shop"].match([SimpleNamespace(key=key, value=value) for key, value in entries])
    return rule.name if rule else None


def test_describe_says_everything() -> None:
    assert rules().describe()[:2] == [
        {
            "rule": "shop/tenant=gold",
            "domain": "shop",
            "descriptors": [{"key": "tenant", "value": "gold"}],
            "name": "golden",
            "unit": "MINUTE",
            "requests_per_unit": 5,
            "unlimited": False,
            "shadow_mode": False,
            "place": "shop.yaml:3",
        },
        {
            "rule": "shop/tenant=gold/path",
            "domain": "shop",
            "descriptors": [{"key": "tenant", "value": "gold"}, {"key": "path"}],
            "name": "",
            "unit": "DAY",
            "requests_per_unit": 7,
            "unlimited": False,
            "shadow_mode": True,
            "place": "shop.yaml:7",
        },
    ]


def test_dump_has_the_originals_form() -> None:
    assert rules().dump().splitlines() == [
        "shop.tenant_gold: unit=MINUTE requests_per_unit=5, shadow_mode: false",
        "shop.tenant_gold.path: unit=DAY requests_per_unit=7, shadow_mode: true",
        "shop.house: unit=UNKNOWN requests_per_unit=0, shadow_mode: false, unlimited: true",
    ]


def test_revision_follows_the_rules_and_not_their_text() -> None:
    revision = rules().revision
    assert len(revision) == 12
    assert rules("# a comment\n" + TEXT, "other.yaml").revision == revision
    assert rules(TEXT.replace("unit: 5", "unit: 6")).revision != revision
    assert rules(TEXT.replace("domain: shop", "domain: shops")).revision != revision


def test_entries_come_back_for_the_counter() -> None:
    compiled = rules()
    entries = [SimpleNamespace(key="tenant", value="gold"), SimpleNamespace(key="path", value="/")]
    assert compiled.domains["shop"].match(entries)[1] == ("tenant", "gold", "path", "/")


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("*", "", True),
        ("a*", "a", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*b*", "abc", True),
        ("*b*", "ac", False),
        ("a*b*c", "a-c-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("**", "x", True),
        ("a**b", "ab", True),
        ("x*", "yx", False),
        ("*aa*a*", "aa", False),
        ("*aa*a*", "aaa", True),
    ],
)
def test_patterns(pattern: str, value: str, expected: bool) -> None:
    assert matches(pattern.split("*"), value) is expected


def slow_match(pattern: str, value: str) -> bool:
    if not pattern:
        return not value
    if pattern[0] == "*":
        return any(slow_match(pattern[1:], value[start:]) for start in range(len(value) + 1))
    return bool(value) and value[0] == pattern[0] and slow_match(pattern[1:], value[1:])


@given(
    st.text("a*", max_size=7).map("*".__add__) | st.text("ab*", max_size=7).map("*".__add__), st.text("ab", max_size=8)
)
def test_patterns_match_as_the_plain_definition(pattern: str, value: str) -> None:
    assert matches(pattern.split("*"), value) == slow_match(pattern, value)


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


@given(st.data())
def test_exact_goes_before_any_at_every_level(data: st.DataObject) -> None:
    """Matching agrees with walking the declarations by hand."""
    keys, values = st.sampled_from(["a", "b"]), st.sampled_from(["", "x", "y"])

    def declare(depth: int) -> list[dict[str, object]]:
        pairs = data.draw(st.lists(st.tuples(keys, values), unique=True, max_size=3))
        return [
            {
                "key": key,
                "value": value,
                "limit": data.draw(st.booleans()),
                "below": declare(depth - 1) if depth else [],
            }
            for key, value in pairs
        ]

    def write(level: list[dict], indent: str) -> str:
        return "".join(
            f"{indent}- key: {one['key']}\n{indent}  value: '{one['value']}'\n"
            + (f"{indent}  rate_limit: {{unit: day, requests_per_unit: 1}}\n" if one["limit"] else "")
            + (f"{indent}  descriptors:\n{write(one['below'], indent + '    ')}" if one["below"] else "")
            for one in level
        )

    def walk(level: list[dict], entries: list[tuple[str, str]], name: str) -> str | None:
        key, value = entries[0]
        for candidate in (value, ""):
            for one in level:
                if one["key"] == key and one["value"] == candidate:
                    name = f"{name}/{key}={candidate}" if candidate else f"{name}/{key}"
                    if len(entries) == 1:
                        return name if one["limit"] else None
                    return walk(one["below"], entries[1:], name)
        return None

    tree = declare(2)
    compiled = rules(f"domain: shop\ndescriptors:\n{write(tree, '  ')}")
    entries = data.draw(st.lists(st.tuples(keys, st.sampled_from(["", "x", "y", "z"])), min_size=1, max_size=4))
    assert match(compiled, *entries) == walk(tree, entries, "shop")

"""Files that are refused, with the place of every fault; and how files are found."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer_py.errors import ConfigurationError
from mixer_py.ratelimit.files.parsing import parse
from mixer_py.ratelimit.rules import Rules
from mixer_py.ratelimit.settings import RateLimitSettings

FILES = Path(__file__).parents[1] / "cases" / "rate_limit_files"
GOOD = b"domain: shop\ndescriptors:\n  - key: tenant\n    rate_limit: {unit: day, requests_per_unit: 1}\n"


def load(*paths: Path, merge_domains: bool = False) -> Rules:
    return Rules.load(RateLimitSettings(config=tuple(map(str, paths)), merge_domains=merge_domains))


def faults_of(*paths: Path, merge_domains: bool = False) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        load(*paths, merge_domains=merge_domains)
    return [str(fault) for fault in raised.value.faults]


@pytest.mark.parametrize("file", sorted(FILES.glob("*.yaml")), ids=lambda file: file.stem)
def test_file_is_refused(file: Path) -> None:
    """Each line of the .want file is the beginning of one fault, without the path of the file."""
    wanted = [f"{file}:{line}" for line in file.with_suffix(".want").read_text(encoding="utf-8").splitlines()]
    got = faults_of(file)
    assert len(got) == len(wanted), got
    for fault, begin in zip(got, wanted, strict=True):
        assert fault.startswith(begin)


def test_every_refused_file_has_its_faults_written_down() -> None:
    assert {file.stem for file in FILES.glob("*.yaml")} == {file.stem for file in FILES.glob("*.want")}


def test_domain_in_two_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"# one\n" + GOOD)
    (tmp_path / "b.yaml").write_bytes(b"descriptors: []\n" + GOOD.splitlines()[0])
    first = f"first in {tmp_path}/a.yaml:2 (keep a domain in one file, or set rate_limit.merge_domains)"
    assert faults_of(tmp_path) == [f"{tmp_path}/b.yaml:2: domain: duplicate domain 'shop', {first}"]


def test_files_of_one_domain_are_merged_where_that_is_set(tmp_path: Path) -> None:
    """Patterns of the same key are tried in the order of the files, and the files' lines stay."""
    limit = "rate_limit: {unit: day, requests_per_unit: 1}"
    (tmp_path / "a.yaml").write_text(
        f"domain: shop\ndescriptors:\n  - {{key: path, value: /a*, {limit}}}\n  - {{key: tenant, {limit}}}\n",
        encoding="utf-8",
    )
    (tmp_path / "b.yaml").write_text(f"domain: bank\ndescriptors: [{{key: tenant, {limit}}}]\n", encoding="utf-8")
    (tmp_path / "c.yaml").write_text(
        f"domain: shop\ndescriptors:\n  - {{key: path, value: '*b', {limit}}}\n  - {{key: path, {limit}}}\n",
        encoding="utf-8",
    )
    rules = load(tmp_path, merge_domains=True)
    assert sorted(rules.domains) == ["bank", "shop"]
    matched = [rules.domains["shop"].match([SimpleNamespace(key="path", value=v)])[0] for v in ("/ab", "/b", "/c")]
    assert [rule.place if rule else None for rule in matched] == [
        f"{tmp_path}/a.yaml:3",
        f"{tmp_path}/c.yaml:3",
        f"{tmp_path}/c.yaml:4",
    ]


def test_merged_files_do_not_overlap(tmp_path: Path) -> None:
    for name, key in (("a", "tenant"), ("b", "path"), ("c", "tenant")):
        text = f"domain: shop\ndescriptors:\n  - key: {key}\n    rate_limit: {{unit: day, requests_per_unit: 1}}\n"
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    (fault,) = faults_of(tmp_path, merge_domains=True)
    assert fault == (
        f"{tmp_path}/c.yaml:3: descriptors[0]: duplicate descriptor shop/tenant of a merged domain, first in "
        f"{tmp_path}/a.yaml:3 (merge what stands below both in one file)"
    )
    assert len(faults_of(tmp_path)) == 2


def test_config_map_is_swapped(tmp_path: Path) -> None:
    """Kubernetes writes a new `..<time>` folder, and puts a new `..data` link in the old one's place at once."""

    def mount(time: str, requests: int) -> None:
        folder = tmp_path / f"..{time}"
        folder.mkdir()
        (folder / "shop.yaml").write_bytes(
            GOOD.replace(b"requests_per_unit: 1", f"requests_per_unit: {requests}".encode())
        )
        link = tmp_path / "..data_tmp"
        link.symlink_to(folder.name)
        link.rename(tmp_path / "..data")

    mount("2024_01_01", 5)
    (tmp_path / "shop.yaml").symlink_to("..data/shop.yaml")
    assert [rule.requests_per_unit for rule in load(tmp_path)] == [5]
    mount("2024_01_02", 6)
    shutil.rmtree(tmp_path / "..2024_01_01")
    assert [(rule.requests_per_unit, rule.place) for rule in load(tmp_path)] == [(6, f"{tmp_path}/shop.yaml:3")]


def test_faults_of_all_files_come_at_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_bytes(b"domian: shop\n")
    missing = tmp_path / "missing.yaml"
    (tmp_path / "empty").mkdir()
    got = faults_of(tmp_path, missing, tmp_path / "empty")
    assert len(got) == 6
    assert f"{missing}: rate_limit.config: cannot be read: No such file or directory" in got
    assert f"{tmp_path}/empty: rate_limit.config: the folder holds no .yaml or .yml file" in got


def test_config_map_is_read_once(tmp_path: Path) -> None:
    """Kubernetes mounts `..data` → `..2024_01_01`, and `shop.yaml` → `..data/shop.yaml`."""
    (tmp_path / "..2024_01_01").mkdir()
    (tmp_path / "..2024_01_01" / "shop.yaml").write_bytes(GOOD)
    (tmp_path / "..data").symlink_to("..2024_01_01")
    (tmp_path / "shop.yaml").symlink_to("..data/shop.yaml")
    rules = load(tmp_path, tmp_path / "shop.yaml", tmp_path / "..data")
    assert [rule.place for rule in rules] == [f"{tmp_path}/shop.yaml:3"]


def test_no_files_are_no_rules() -> None:
    rules = load()
    assert len(rules) == 0
    assert rules.describe() == []


def test_not_utf8(tmp_path: Path) -> None:
    file = tmp_path / "latin.yaml"
    file.write_bytes(b"domain: caf\xe9\n")
    assert faults_of(file)[0].startswith(f"{file}:1: this is not YAML")


def test_aliases_cannot_blow_up(tmp_path: Path) -> None:
    """Sixty lines that stand for 10^20 descriptors."""
    file = tmp_path / "laughs.yaml"
    lines = ["domain: shop", "descriptors:", "  - key: level", "    descriptors: &a0 []"]
    for level in range(1, 21):
        children = ", ".join(f"{{key: k{n}, descriptors: *a{level - 1}}}" for n in range(10))
        lines += [f"  - key: l{level}", f"    descriptors: &a{level} [{children}]"]
    file.write_text("\n".join(lines), encoding="utf-8")
    assert faults_of(file) == [f"{file}:1: descriptors: its aliases stand for more than 250000 descriptors"]


def test_merges_cannot_blow_up(tmp_path: Path) -> None:
    file = tmp_path / "merges.yaml"
    lines = ["domain: shop", "descriptors:", "  - &m0 {key: k0}"]
    lines += [f"  - &m{level} {{key: k{level}, <<: [*m{level - 1}, *m{level - 1}]}}" for level in range(1, 60)]
    file.write_text("\n".join(lines), encoding="utf-8")
    assert len(load(file).domains) == 1


def test_metadata_cannot_blow_up(tmp_path: Path) -> None:
    file = tmp_path / "metadata.yaml"
    lines = ["domain: shop", "descriptors:", "  - key: k", "    metadata:", "      a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    lines += [f"      a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 12)]
    file.write_text("\n".join(lines), encoding="utf-8")
    assert faults_of(file) == [f"{file}:5: descriptors[0].metadata: metadata holds more than 256 values"]


def test_deep_nesting_is_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "deep.yaml"
    file.write_text("domain: shop\ndescriptors: " + "[{key: a, descriptors: " * 70 + "[]" + "}]" * 70, encoding="utf-8")
    (fault,) = faults_of(file)
    assert "descriptors are nested deeper than 64 levels" in fault
    file.write_text("[" * 100_000, encoding="utf-8")
    assert faults_of(file) == [f"{file}:1: it is nested deeper than 500 levels"]


def test_faults_are_bounded(tmp_path: Path) -> None:
    file = tmp_path / "many.yaml"
    file.write_text("domain: shop\ndescriptors: [" + "x, " * 3000 + "x]", encoding="utf-8")
    got = faults_of(file)
    assert len(got) == 1001
    assert got[-1].endswith("there are more than 1000 faults in this file")


@given(
    st.binary(max_size=200) | st.text(alphabet="domainescrptky:-[]{}&*<!?\"'\n\t ,01.", max_size=200).map(str.encode)
)
def test_any_bytes_are_rules_or_faults(content: bytes) -> None:
    declaration, faults = parse("any.yaml", content)
    assert faults or (declaration is not None and declaration.domain)
    assert all(fault.file == "any.yaml" and fault.line >= 1 for fault in faults)


SCALARS = (
    st.none() | st.booleans() | st.integers(-2, 2**33) | st.floats(-1, 1e20)
    | st.sampled_from(["", "a", "a*", "day", "90s", "0.1s", "10%", "200%", "token_bucket", "sliding_window"])
)  # fmt: skip
PLACES = (
    ("domain", "descriptors", "key", "value", "shadow_mode", "share_threshold", "metadata", "rate_limit", "zzz"),
    (
        "unit", "requests_per_unit", "unlimited", "name", "replaces", "unit_multiplier", "window", "algorithm",
        "burst", "lease",
    ),
)  # fmt: skip


def mappings(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.one_of(*(st.dictionaries(st.sampled_from(keys), values, max_size=6) for keys in PLACES))


@given(
    st.lists(
        st.fixed_dictionaries(
            {"key": st.just("a")},
            optional={
                "value": SCALARS,
                "share_threshold": st.booleans(),
                "metadata": st.recursive(SCALARS, lambda below: mappings(below) | st.lists(below, max_size=3)),
                "rate_limit": st.recursive(SCALARS, lambda below: mappings(below) | st.lists(below, max_size=3)),
            },
        ),
        max_size=2,
    )
)
def test_any_values_at_the_known_keys_are_rules_or_faults(descriptors: list[dict[str, object]]) -> None:
    content = orjson.dumps({"domain": "shop", "descriptors": descriptors})
    declaration, faults = parse("any.yaml", content)
    assert all(fault.file == "any.yaml" and fault.line == 1 and fault.message for fault in faults)
    if faults or declaration is None:
        return
    rules = Rules([declaration])
    orjson.dumps(rules.describe())
    assert rules.dump().count("\n") == len(rules)
    for rule in rules:
        assert rule.unlimited or (rule.window_us >= 1_000_000 and 0 <= rule.lease <= rule.burst)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"store": "memory"}, "'memory' is no address of a counter store; write memory://"),
        ({"on_error": "ignore"}, "Input should be 'error', 'allow' or 'deny'"),
        ({"merge_domains": "perhaps"}, "valid boolean"),
        ({"max_counters": 0}, "greater than or equal to 1"),
        ({"confg": []}, "Extra inputs are not permitted"),
    ],
)
def test_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RateLimitSettings.model_validate(settings)

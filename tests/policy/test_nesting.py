"""What a module may nest: more is refused before the engine's parser sees it, which takes days or ends the process."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer_py.errors import PolicyLoadError
from mixer_py.policy.bundles.reading import read_bundles
from mixer_py.policy.policy import Policy
from mixer_py.policy.rego.nesting import MAX_DEPTH, MAX_READS, READS_OF_A_LETTER, check_nesting
from mixer_py.policy.settings import PolicySettings
from mixer_py.policy.testing.suite import read_suite

HEAD = "package envoy.authz\n\ndefault allow := false\n\n"
ROOT = Path(__file__).parents[2]
TOO_OFTEN = {
    "arrays": ("[", "]"),
    "sets": ("{", "}"),
    "objects": ('{"a": ', "}"),
    "keys": ("{[", "]: 1}"),
    "arrays in parentheses": ("([", "])"),
    "arrays that are arguments": ("count([", "])"),
    "arrays with more elements": ("[", ", 2]"),
    "unions in sets": ("{1 | ", ", 2}"),
    "comprehensions": ("[1 | ", "]"),
    "bodies": ("every x in y {\n", "}"),
    "a comment in each": ("[ # ]\n", "]"),
    "a string in each": ('{"}": ', "}"),
}
"""What opens a level and what closes it, for what the parser reads again at each level."""
TOO_DEEP = {
    "calls": ("count(", ")"),
    "parentheses": ("(", ")"),
    "later elements": ("f(1, ", ")"),
    "signs": ("-", ""),
    "signs on lines": ("- # one more\n", ""),
    "sums": ("1 + ", ""),
    "sums that go on in another line": ("1\n+ ", ""),
    "memberships": ("1 in ", ""),
    "comparisons": ("1 == ", ""),
}
"""The same for what nests in its tree."""
REFERENCES = ["input" + ".a" * 5000, "input" + "[0]" * 5000, "input" + "[0][1].a" * 2000]
PLACES = ["x := {0}\n", "x if {{\n\tinput.y == {0}\n}}\n", "x contains {0}\n", "default x := {0}\n", "x[{0}] := 1\n"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
@pytest.mark.parametrize(
    ("opening", "closing", "levels"),
    [(*pair, 25) for pair in TOO_OFTEN.values()] + [(*pair, 5000) for pair in TOO_DEEP.values()],
    ids=[*TOO_OFTEN, *TOO_DEEP],
)
def test_too_much_is_refused_with_its_line(
    opening: str, closing: str, levels: int, closed: bool, place: str, tmp_path: Path
) -> None:
    nest = opening * levels + ("1" + closing * levels if closed else "")
    refusal = refused(HEAD + place.format(nest), tmp_path)
    assert refusal.faults[0].line >= HEAD.count("\n") + 1
    assert "rules of their own" in refusal.faults[0].way_out


@pytest.mark.parametrize("reference", REFERENCES, ids=["names", "numbers", "both"])
@pytest.mark.parametrize("place", PLACES)
def test_references_without_end_are_refused(reference: str, place: str, tmp_path: Path) -> None:
    refused(HEAD + place.format(reference), tmp_path)


def refused(text: str, folder: Path) -> PolicyLoadError:
    """The refusal of a policy, which names its file."""
    file = folder / "policy.rego"
    file.write_text(text)
    with pytest.raises(PolicyLoadError, match="nests too deeply") as refusal:
        read_bundles([str(file)])
    assert [fault.file for fault in refusal.value.faults] == [str(file)]
    return refusal.value


@pytest.mark.parametrize("version", ["v0", "v1"])
def test_the_line_is_that_of_the_bracket_that_is_too_much(version: str, tmp_path: Path) -> None:
    file = tmp_path / "policy.rego"
    file.write_text(HEAD + 'word := "[[[["\n\nx := 41' + "[\n" * 30)
    with pytest.raises(PolicyLoadError) as refusal:
        Policy.load(PolicySettings(bundles=(str(file),), rego_version=version))
    assert str(refusal.value).startswith(f"{file}:{HEAD.count(chr(10)) + 3 + 19}: nests too deeply")


def test_tests_of_policies_are_judged_too(tmp_path: Path) -> None:
    (tmp_path / "policy.rego").write_text(HEAD)
    (tmp_path / "policy_test.rego").write_text("package envoy.authz_test\n\ntest_it if " + "[" * 40)
    with pytest.raises(PolicyLoadError, match=r"policy_test\.rego:3: nests too deeply"):
        read_suite([str(tmp_path)])


@pytest.mark.parametrize(("opening", "closing"), TOO_OFTEN.values(), ids=TOO_OFTEN)
def test_eight_levels_of_anything_are_no_matter(opening: str, closing: str) -> None:
    check_nesting(f"{HEAD}x := {opening * 8}1{closing * 8}\n", "policy.rego")


@pytest.mark.parametrize(
    "text",
    [
        "x := [" + "[1], " * 100_000 + "]",
        "x := {" + '"a": {"b": [1, 2]},\n' * 20_000 + "}",
        "x if {\n" + "\tinput.a.b[_].c == 1 + 2\n" * 10_000 + "}",
        "x := 1 if {\n\tinput.a\n}" + " else := 2 if {\n\tinput.b\n}" * 500,
        "x if {\n" + "\tsome a, b in input.c # [[[[\n" * 10_000 + "}",
        'x := "' + "[" * 1000 + '\\"' + "[" * 1000 + '"',
        "x := `" + "[\n" * 1000 + "`",
        "# " + "[" * 1000,
    ],
    ids=["a list", "an object", "a body", "branches", "statements", "a string", "a raw string", "a comment"],
)
def test_length_is_no_nesting(text: str) -> None:
    check_nesting(HEAD + text + "\n", "policy.rego")


@pytest.mark.parametrize(("opening", "closing"), TOO_DEEP.values(), ids=TOO_DEEP)
def test_what_may_stand_is_loaded_or_refused_by_the_engine(opening: str, closing: str, tmp_path: Path) -> None:
    levels = MAX_DEPTH - 10
    file = tmp_path / "policy.rego"
    file.write_text(f"{HEAD}x := {opening * levels}1{closing * levels}\n")
    check_nesting(file.read_text(), str(file))
    with suppress(PolicyLoadError):
        Policy.load(PolicySettings(bundles=(str(file),)))


@given(st.text(alphabet='[]{}(),|;\n"`# -+.=ai:', max_size=300))
def test_any_text_is_judged(text: str) -> None:
    check_nesting(text, "policy.rego")


@given(st.integers(0, 40), st.integers(1, 400))
def test_the_bound_grows_with_the_text(levels: int, times: int) -> None:
    text = ("[" * levels + "]" * levels + ",\n") * times
    reads = times * (2 ** (levels + 1) - 2)
    allowed = max(MAX_READS, READS_OF_A_LETTER * len(text))
    try:
        check_nesting(text, "policy.rego")
    except PolicyLoadError:
        assert reads > allowed
    else:
        assert reads <= allowed


def test_no_policy_of_this_project_is_refused() -> None:
    files = [file for folder in ("policies", "tests", "docs", "deploy") for file in (ROOT / folder).rglob("*.rego")]
    assert len(files) > 50
    for file in files:
        check_nesting(file.read_text(), str(file))

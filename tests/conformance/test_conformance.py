"""A short form of `make conformance`: every case that is asked of a builtin, and a share of those of the language."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from tests.conformance.cases import Case, Wanted, cases_folder, read_cases
from tests.conformance.judging import Verdict, alike, judge
from tests.conformance.report import BAD
from tests.parts.opa_module import find_opa_module, opa_version
from tests.parts.presence import ROOT, find_server

SHARES = 6
"""Each run of the tests asks a sixth of the cases, those of one remainder of their place."""

pytestmark = [pytest.mark.opa, pytest.mark.opa_module]


def some_cases(remainder: int, version: str = "v1") -> list[Case]:
    module = find_opa_module()
    assert module is not None
    return [case for index, case in enumerate(read_cases(cases_folder(module, version))) if index % SHARES == remainder]


@pytest.mark.parametrize(("remainder", "version"), [(0, "v1"), (3, "v1"), (1, "v0")])
def test_no_case_that_loads_is_answered_otherwise_than_by_opa(remainder: int, version: str) -> None:
    opa = find_server("opa")
    assert opa is not None
    judged = [judgement for case in some_cases(remainder, version) for judgement in judge(case, opa)]
    bad = [f"{one.verdict}: {one.case.name} ({one.tier}): {one.why}" for one in judged if one.verdict in BAD]
    assert not bad
    counts = Counter(one.verdict for one in judged)
    assert counts[Verdict.PASS] > counts[Verdict.REFUSED] * 3
    assert counts[Verdict.FAILED] <= 2


def test_the_published_page_is_of_this_version_of_opa_and_shows_no_wrong_answer() -> None:
    text = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    assert f"({opa_version()}," in text
    assert text.count("0 are answered wrongly") == 2


def test_a_wrong_answer_would_be_seen() -> None:
    (case, *_) = some_cases(0)
    wrong = replace(case, wanted=Wanted("value", "no"), unaskable="")
    opa = find_server("opa")
    assert opa is not None
    assert {one.verdict for one in judge(wrong, opa)} == {Verdict.WRONG}
    error = replace(case, wanted=Wanted("error"), unaskable="")
    assert {one.verdict for one in judge(error, opa)} == {Verdict.MISSED}


@pytest.mark.parametrize(
    ("wanted", "got", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        ([1, 2], [2, 1], False),
        ({"a": [1.0]}, {"a": [1]}, True),
        ({1: 2}, {"1": 2}, True),
    ],
)
def test_values_are_compared_as_rego_does(wanted: object, got: object, *, same: bool) -> None:
    assert alike(wanted, got, unordered=False) is same

"""The targets of the fuzzers: cases that were found hold, each target tries the same few inputs, finds are kept.

Nothing is explored here, and nothing depends on how fast the machine is: that is for `make fuzz`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import run
from tests.fuzz.one import blind
from tests.fuzz.target import CORPUS, Target, joined, load, names, split

RUNS = 200
SECONDS = 1200
"""What a turn may take at most, so that a machine that is slow or busy finds no hang."""
KEPT = [(name, case.name) for name in names() for case in load(name).kept()]
NEED_ENVOY = {"framing_envoy"}


def marks(name: str) -> list[pytest.MarkDecorator]:
    """What a target needs."""
    return [pytest.mark.envoy] if name in NEED_ENVOY else []


@pytest.mark.parametrize(("name", "case"), [pytest.param(*one, id="-".join(one), marks=marks(one[0])) for one in KEPT])
def test_a_case_that_was_found_is_no_trouble_any_more(name: str, case: str) -> None:
    load(name).check((CORPUS / name / case).read_bytes())


@pytest.mark.long(1)
@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in names()])
def test_a_short_run_finds_nothing(name: str, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "INPUTS", tmp_path)
    monkeypatch.setattr(run, "CORPUS", tmp_path / "corpus")
    tally = run.Tally()
    run.give_turn(name, tally, SECONDS, RUNS)
    assert tally.found == []
    assert tally.runs >= RUNS


def test_cases_are_kept_of_targets_that_there_are() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} <= set(names())


def test_what_breaks_an_invariant_is_found_and_kept(monkeypatch, tmp_path: Path) -> None:
    def check(data: bytes) -> None:
        assert b"\x80" not in data, "no high bit"

    found = tmp_path / "found"
    found.mkdir()
    with pytest.raises(AssertionError, match="no high bit"):
        blind(Target("made_up", check, lambda: [b"\0\0\0\0"]), 60, found)
    monkeypatch.setattr(run, "CORPUS", tmp_path / "corpus")
    tally = run.Tally()
    run.keep("made_up", tally, found, "no high bit")
    (case,) = (tmp_path / "corpus" / "made_up").iterdir()
    assert tally.found == [f"made_up/{case.name}"]
    with pytest.raises(AssertionError):
        check(case.read_bytes())


def test_a_turn_that_ends_badly_is_told_even_without_a_case(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "INPUTS", tmp_path)
    tally = run.Tally()
    run.give_turn("no_such_target", tally, 1)
    assert tally.found == ["no_such_target: ended without a case"]
    assert "no_such_target: ended without a case" in run.report({"names": tally})


def test_parts_that_are_joined_come_apart() -> None:
    parts = [b"", b"a", b"\0\1", b"x" * 300]
    assert split(joined(parts)) == parts

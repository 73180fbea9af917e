"""`make bench-compare`: what changed between two runs of a benchmark, and what is only noise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parts.presence import ROOT

MACHINE = {"date": "2026-11-28", "version": "0.1.0", "machine": "2 processors", "python": "3.13", "parts": "grpcio 1"}
Rounds = dict[str, tuple[str, list[float]]]


def run(folder: Path, name: str, rounds: Rounds, *, benchmark: str = "some", **circumstances: str) -> Path:
    """The figures of a run, by name: unit and rounds."""
    figures = [
        {
            "name": figure, "title": f"the {figure}", "unit": unit, "value": sorted(values)[len(values) // 2],
            "rounds": values, "section": "S", "more_is_better": unit == "1/s",
        }
        for figure, (unit, values) in rounds.items()
    ]  # fmt: skip
    told = {"benchmark": benchmark, "summary": "", "circumstances": {**MACHINE, **circumstances}}
    document = {**told, "figures": figures}
    path = folder / name
    path.write_text(json.dumps(document))
    return path


def compare(first: Path, second: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "compare.py"), str(first), str(second)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("unit", "before", "after", "verdict"),
    [
        ("floors", [1.2, 1.25, 1.22], [1.4, 1.5, 1.45], "| +19% | worse |"),
        ("floors", [1.4, 1.5, 1.45], [1.2, 1.25, 1.22], "| -16% | better |"),
        ("floors", [1.2, 1.45, 1.22], [1.4, 1.5, 1.45], None),  # the ranges overlap
        ("floors", [1.20, 1.21, 1.22], [1.23, 1.24, 1.25], None),  # apart, but a hair's breadth
        ("floors", [1.2], [1.3], None),  # one round each says nothing of their noise
        ("floors", [1.2], [1.8], "| +50% | worse |"),
        ("1/s", [100, 110, 105], [200, 210, 205], "| +95% | better |"),
        ("1/s", [200, 210, 205], [100, 110, 105], "| -49% | worse |"),
    ],
)
def test_what_is_a_change(tmp_path, unit: str, before: list[float], after: list[float], verdict: str | None):
    done = compare(run(tmp_path, "a", {"cost": (unit, before)}), run(tmp_path, "b", {"cost": (unit, after)}))
    if verdict is None:
        assert "Nothing has changed beyond noise." in done.stdout
        assert "1 of 1 figures stayed within their noise." in done.stdout
    else:
        assert "| the cost |" in done.stdout
        assert verdict in done.stdout
    assert done.returncode == (unit == "floors" and verdict is not None and "worse" in verdict), done.stderr


def test_figures_of_one_machine_and_hour_stand_apart(tmp_path):
    rounds: Rounds = {"slowness": ("ms", [1.0, 1.1, 1.05]), "cost": ("floors", [1.0, 1.1, 1.05])}
    later: Rounds = {"slowness": ("ms", [9.0, 9.1, 9.05]), "cost": ("floors", [1.0, 1.1, 1.05])}
    done = compare(run(tmp_path, "a", rounds), run(tmp_path, "b", later, machine="4 processors"))
    portable, _, others = done.stdout.partition("Only where both ran on one machine at one time:")
    assert "Nothing has changed" in portable
    assert "| the slowness |" in others
    assert "The runs differ in: machine." in portable
    assert done.returncode == 0


def test_figures_that_only_one_run_has_are_named(tmp_path):
    first = run(tmp_path, "a", {"old": ("floors", [1.0, 1.0, 1.0]), "both": ("floors", [1.0, 1.0, 1.0])})
    second = run(tmp_path, "b", {"new": ("floors", [1.0, 1.0, 1.0]), "both": ("floors", [1.0, 1.0, 1.0])})
    done = compare(first, second)
    assert "Only in the first: old." in done.stdout
    assert "Only in the second: new." in done.stdout


def test_what_cannot_be_compared_is_refused(tmp_path):
    good = run(tmp_path, "a", {"cost": ("floors", [1.0])})
    other = run(tmp_path, "b", {"cost": ("floors", [1.0])}, benchmark="other")
    (tmp_path / "c").write_text("{}")
    for second, words in (
        (other, "of other"),
        (tmp_path / "c", "holds no figures"),
        (tmp_path / "d", "no figures"),
    ):
        done = compare(good, second)
        assert done.returncode == 1
        assert words in done.stderr

"""`make bench-compare A=… B=…`: what changed between two runs of a benchmark, beyond noise.

A figure has changed when the ranges of its rounds do not overlap and its median moved by more than a twentieth: with
five rounds each, ranges of two equal things stay apart in one comparison of 126. Ratios to a floor may be compared
between runs; microseconds and milliseconds only between runs on one machine at one time, so those are told apart.
Exits with 1 when something became worse, which is for scripts; tests assert no time.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from figures import Figure, Run, read

_LEAST: Final = 0.05
"""A smaller part of a figure is nobody's business."""
_FEW_ROUNDS: Final = 3
"""With fewer rounds a range says nothing, and a figure has to move by more."""
_LEAST_OF_FEW: Final = 0.25
_PORTABLE: Final = frozenset({"floors", "MiB", "ratio"})
"""Units that may be compared between machines and days."""

Outcome = Literal["better", "worse", "within noise"]


@dataclass(frozen=True, slots=True)
class Change:
    """One figure in both runs.

    Attributes:
        before: in the first.
        after: in the second.
        outcome: what became of it.
    """

    before: Figure
    after: Figure
    outcome: Outcome

    @property
    def part(self) -> float:
        """By which part of it the figure moved."""
        return self.after.value / self.before.value - 1 if self.before.value else 0.0


def judge(before: Figure, after: Figure) -> Outcome:
    """Whether a figure has changed."""
    few = min(len(before.rounds), len(after.rounds)) < _FEW_ROUNDS
    apart = few or max(before.rounds) < min(after.rounds) or max(after.rounds) < min(before.rounds)
    moved = abs(after.value - before.value) > (_LEAST_OF_FEW if few else _LEAST) * abs(before.value)
    if not (apart and moved):
        return "within noise"
    return "better" if (after.value > before.value) == before.more_is_better else "worse"


def compare(first: Run, second: Run) -> list[Change]:
    """Every figure that both runs have, in the order of the first."""
    return [
        Change(before, second.figures[name], judge(before, second.figures[name]))
        for name, before in first.figures.items()
        if name in second.figures
    ]


def told(first: Run, second: Run) -> str:
    """The comparison as Markdown."""
    changes = compare(first, second)
    changed = [one for one in changes if one.outcome != "within noise"]
    lines = [f"{first.benchmark}: {_when(first)} against {_when(second)}", ""]
    differing = [key for key in ("machine", "python", "parts") if first.circumstances[key] != second.circumstances[key]]
    if differing:
        lines += [f"The runs differ in: {', '.join(differing)}.", ""]
    lines += _table([one for one in changed if one.before.unit in _PORTABLE])
    others = [one for one in changed if one.before.unit not in _PORTABLE]
    if others:
        lines += ["", "Only where both ran on one machine at one time:", "", *_table(others)]
    gone = first.figures.keys() - second.figures.keys()
    new = second.figures.keys() - first.figures.keys()
    lines += ["", f"{len(changes) - len(changed)} of {len(changes)} figures stayed within their noise."]
    lines += [f"Only in the first: {', '.join(sorted(gone))}."] if gone else []
    lines += [f"Only in the second: {', '.join(sorted(new))}."] if new else []
    return "\n".join(lines)


def _when(run: Run) -> str:
    return f"{run.circumstances['version']} on {run.circumstances['date']}"


def _table(changes: list[Change]) -> list[str]:
    if not changes:
        return ["Nothing has changed beyond noise."]
    rows = [
        f"| {one.before.title} | {_range(one.before)} | {_range(one.after)} | {one.part:+.0%} | {one.outcome} |"
        for one in changes
    ]
    return ["| figure | before (rounds) | after (rounds) | change | |", "|---|---|---|---|---|", *rows]


def _range(one: Figure) -> str:
    return f"{one.value:.3g} {one.unit} ({min(one.rounds):.3g} to {max(one.rounds):.3g})"


def main() -> int:
    """Compares and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("first", type=Path, help="figures of the run before: the JSON beside a report")
    parser.add_argument("second", type=Path, help="figures of the run after")
    options = parser.parse_args()
    first, second = read(options.first), read(options.second)
    if first.benchmark != second.benchmark:
        raise SystemExit(f"{options.first} is of {first.benchmark}, {options.second} of {second.benchmark}")
    print(told(first, second))
    return int(any(one.outcome == "worse" and one.before.unit in _PORTABLE for one in compare(first, second)))


if __name__ == "__main__":
    sys.exit(main())

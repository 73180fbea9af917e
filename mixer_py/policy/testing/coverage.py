"""Which lines of policies tests evaluated: percents, ranges of lines, and the shape of `opa test --coverage`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Lines = Mapping[str, tuple[set[int], set[int]]]
"""Lines that were evaluated, and lines that were not, by file."""


@dataclass(frozen=True, slots=True)
class FileCoverage:
    """One file.

    Attributes:
        file: its path.
        covered: lines that a test evaluated, in order.
        missing: lines that none did, in order.
    """

    file: str
    covered: tuple[int, ...]
    missing: tuple[int, ...]

    @property
    def percent(self) -> float:
        """Of the lines that can be evaluated; 100 when there are none."""
        return percent(len(self.covered), len(self.missing))


@dataclass(frozen=True, slots=True)
class Coverage:
    """All files."""

    files: tuple[FileCoverage, ...]

    @property
    def percent(self) -> float:
        """Of the lines of all files."""
        return percent(sum(len(file.covered) for file in self.files), sum(len(file.missing) for file in self.files))

    def document(self) -> dict[str, Any]:
        """As OPA's coverage report."""
        covered = sum(len(file.covered) for file in self.files)
        missing = sum(len(file.missing) for file in self.files)
        return {
            "files": {file.file: _document(file) for file in self.files},
            "covered_lines": covered,
            "not_covered_lines": missing,
            "coverage": self.percent,
        }


def merge(parts: Iterable[Lines]) -> Coverage:
    """What several runs covered together."""
    files: dict[str, tuple[set[int], set[int]]] = {}
    for part in parts:
        for file, (covered, missing) in part.items():
            there = files.setdefault(file, (set(), set()))
            there[0].update(covered)
            there[1].update(missing)
    return Coverage(
        tuple(
            FileCoverage(file, tuple(sorted(covered)), tuple(sorted(missing - covered)))
            for file, (covered, missing) in sorted(files.items())
        )
    )


def percent(covered: int, missing: int) -> float:
    """Covered lines of all, rounded down to two digits, so that 100 means all."""
    lines = covered + missing
    return 100.0 if not lines else covered * 10_000 // lines / 100


def ranges(lines: Iterable[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of lines."""
    start = end = 0
    for line in lines:
        if line != end + 1 or not start:
            if start:
                yield start, end
            start = line
        end = line
    if start:
        yield start, end


def _document(file: FileCoverage) -> dict[str, Any]:
    parts = {"covered": file.covered, "not_covered": file.missing}
    spans = {
        name: [{"start": {"row": start}, "end": {"row": end}} for start, end in ranges(lines)]
        for name, lines in parts.items()
        if lines
    }
    counts = {"covered_lines": len(file.covered), "not_covered_lines": len(file.missing), "coverage": file.percent}
    return {**spans, **counts}

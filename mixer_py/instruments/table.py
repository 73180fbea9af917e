"""Where the numbers live: a row of doubles that another process can read while this one writes.

A table is two files: `<name>.values`, doubles mapped into memory, and `<name>.series`, one JSON line for each
declared series that says which doubles are its own. The supervisor reads both, so that what a worker counted is
known to the last increment even when that worker was killed. Without a path the table is private memory.

Not for: what the numbers mean (`metrics.py`) or how they are shown (`runtime/`).
"""

from __future__ import annotations

import array
import json
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

DOUBLE_BYTES = 8
DEFAULT_CAPACITY = 4_000_000
"""Doubles in a table on disk; the file is sparse, so only what is used takes room."""


_RESERVED_PART = 64
"""One part in so many of a table on disk is kept for the series that take what no longer gets one of its own."""


@dataclass(frozen=True, slots=True)
class SeriesDeclaration:
    """One series and the doubles that belong to it.

    Attributes:
        kind: `counter`, `gauge` or `histogram`.
        name: metric name.
        documentation: the metric's help text.
        labels: label names and values, in order.
        first: index of its first double. A counter or gauge has one; a histogram has one for each bound, one for
            +Inf (none of them cumulative) and one for the sum.
        bounds: upper bounds of a histogram's buckets.
    """

    kind: str
    name: str
    documentation: str
    labels: tuple[tuple[str, str], ...]
    first: int
    bounds: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """How many doubles the series owns."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1

    def to_line(self) -> str:
        """The series as one JSON line."""
        return json.dumps([self.kind, self.name, self.documentation, self.labels, self.first, self.bounds]) + "\n"

    @classmethod
    def from_line(cls, line: str) -> SeriesDeclaration:
        """The series that `to_line` wrote."""
        kind, name, documentation, labels, first, bounds = json.loads(line)
        return cls(kind, name, documentation, tuple((key, value) for key, value in labels), first, tuple(bounds))


class Table:
    """Doubles for one writing process."""

    def __init__(self, path: Path | None = None, capacity: int = DEFAULT_CAPACITY) -> None:
        """Opens a new table.

        Args:
            path: prefix of the two files; None keeps the numbers in private memory, which grows.
            capacity: doubles that fit into the file.

        Raises:
            OSError: the files cannot be made.
        """
        self._declared: list[SeriesDeclaration] = []
        self._used = 0
        self._capacity = capacity
        self._reserve = capacity // _RESERVED_PART
        self._series_file: IO[str] | None = None
        self._map: mmap.mmap | None = None
        self.values: memoryview[float] | array.array[float]
        if path is None:
            self.values = array.array("d")
            return
        # Never shorter than a reader has mapped it: a page that is cut off under a reader would kill that reader.
        with path.with_suffix(".values").open("a+b") as file:
            file.truncate(capacity * DOUBLE_BYTES)
            self._map = mmap.mmap(file.fileno(), capacity * DOUBLE_BYTES)
        self.values = memoryview(self._map).cast("d")
        self._series_file = path.with_suffix(".series").open("a", encoding="utf-8", buffering=1)

    def declare(
        self,
        kind: str,
        name: str,
        documentation: str,
        labels: tuple[tuple[str, str], ...],
        bounds: tuple[float, ...] = (),
        *,
        last_resort: bool = False,
    ) -> SeriesDeclaration | None:
        """Gives a series its doubles, all zero.

        Args:
            kind: see `SeriesDeclaration`, as the following.
            name: metric name.
            documentation: its help text.
            labels: label names and values.
            bounds: of a histogram.
            last_resort: the series takes what others no longer can; it may use the room that is kept for that.

        Returns:
            The declaration, or None when the table is full.
        """
        series = SeriesDeclaration(kind, name, documentation, labels, self._used, bounds)
        if isinstance(self.values, array.array):
            self.values.extend([0.0] * series.width)
        elif self._used + series.width > self._capacity - (0 if last_resort else self._reserve):
            return None
        self._used += series.width
        self._declared.append(series)
        if self._series_file is not None:
            self._series_file.write(series.to_line())
        return series

    def read(self) -> list[tuple[SeriesDeclaration, tuple[float, ...]]]:
        """All series with their doubles as they are now."""
        return [(series, tuple(self.values[series.first : series.first + series.width])) for series in self._declared]

    def close(self) -> None:
        """Lets go of the files; they stay on disk for whoever reads them."""
        if self._series_file is not None:
            self._series_file.close()
        if isinstance(self.values, memoryview):
            self.values.release()
        if self._map is not None:
            self._map.close()


class TableReader:
    """Reads a table that another process writes."""

    def __init__(self, path: Path) -> None:
        """Opens the two files with the prefix `path`.

        Raises:
            OSError: they are not there.
        """
        with path.with_suffix(".values").open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._values = memoryview(self._map).cast("d")
        self._series_file = path.with_suffix(".series").open(encoding="utf-8")
        self._declared: list[SeriesDeclaration] = []
        self._partial = ""

    def read(self) -> list[tuple[SeriesDeclaration, tuple[float, ...]]]:
        """All series declared by now, with their doubles; a line that is still being written is left for later."""
        lines = (self._partial + self._series_file.read()).split("\n")
        self._partial = lines.pop()
        self._declared.extend(map(SeriesDeclaration.from_line, lines))
        return [(series, tuple(self._values[series.first : series.first + series.width])) for series in self._declared]

    def value(self, series: SeriesDeclaration) -> float:
        """The first double of a series."""
        return self._values[series.first]

    def find(self, name: str) -> SeriesDeclaration | None:
        """The first declared series of that name, once it is there."""
        if not any(series.name == name for series in self._declared):
            self.read()
        return next((series for series in self._declared if series.name == name), None)

    def close(self) -> None:
        """Lets go of the files."""
        self._values.release()
        self._map.close()
        self._series_file.close()


Reading = Sequence[tuple[SeriesDeclaration, tuple[float, ...]]]
"""What a table holds at one moment."""

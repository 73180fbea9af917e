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
from typing import IO, Any

DOUBLE_BYTES = 8
DEFAULT_CAPACITY = 4_000_000
"""Doubles in a table on disk; the file is sparse, so only what is used takes room."""


_LEARNT_AT_ONCE = 1 << 20
"""Characters of declarations that are read at once: some milliseconds, for there may be a hundred thousand series."""
_RESERVED_PART = 64
"""One part in so many of a table on disk is kept for the series that take what no longer gets one of its own."""


@dataclass(frozen=True, slots=True)
class SeriesDeclaration:
    """One series and the doubles that belong to it.

    Attributes:
        kind: `counter`, `gauge` or `histogram`.
        name: metric name.
        documentation: the metric's help text.
        label_names: names of its labels, in order.
        label_values: the values of these; many series share them, so they are one object where they are equal.
        first: index of its first double. A counter or gauge has one; a histogram has one for each bound, one for
            +Inf (none of them cumulative) and one for the sum.
        bounds: upper bounds of a histogram's buckets.
    """

    kind: str
    name: str
    documentation: str
    label_names: tuple[str, ...]
    label_values: tuple[str, ...]
    first: int
    bounds: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """How many doubles the series owns."""
        return len(self.bounds) + 2 if self.kind == "histogram" else 1

    @property
    def labels(self) -> tuple[tuple[str, str], ...]:
        """Label names and values, in order."""
        return tuple(zip(self.label_names, self.label_values, strict=True))

    def to_line(self) -> str:
        """The series as one JSON line."""
        return (
            json.dumps(
                [self.kind, self.name, self.documentation, self.label_names, self.label_values, self.first, self.bounds]
            )
            + "\n"
        )


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
        label_names: tuple[str, ...],
        label_values: tuple[str, ...],
        bounds: tuple[float, ...] = (),
        *,
        last_resort: bool = False,
    ) -> SeriesDeclaration | None:
        """Gives a series its doubles, all zero.

        Args:
            kind: see `SeriesDeclaration`, as the following.
            name: metric name.
            documentation: its help text.
            label_names: names of its labels.
            label_values: their values.
            bounds: of a histogram.
            last_resort: the series takes what others no longer can; it may use the room that is kept for that.

        Returns:
            The declaration, or None when the table is full.
        """
        series = SeriesDeclaration(kind, name, documentation, label_names, label_values, self._used, bounds)
        if isinstance(self.values, array.array):
            self.values.extend([0.0] * series.width)
        elif self._used + series.width > self._capacity - (0 if last_resort else self._reserve):
            return None
        self._used += series.width
        self._declared.append(series)
        if self._series_file is not None:
            self._series_file.write(series.to_line())
        return series

    @property
    def declared(self) -> Sequence[SeriesDeclaration]:
        """Every series, in the order in which they were declared."""
        return self._declared

    def learn(self) -> bool:
        """Nothing: whoever declares a series knows it. See `TableReader.learn`."""
        return False

    def doubles(self, series: SeriesDeclaration) -> tuple[float, ...]:
        """What a series has counted by now."""
        return tuple(self.values[series.first : series.first + series.width])

    def read(self) -> Reading:
        """All series with their doubles as they are now."""
        return [(series, self.doubles(series)) for series in self._declared]

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
        self._known: dict[object, Any] = {}
        """Names and values of labels, documentation and bounds, each kept once: most series have them in common."""

    @property
    def declared(self) -> Sequence[SeriesDeclaration]:
        """Every series that was learnt of, in the order in which they were declared."""
        return self._declared

    def learn(self) -> bool:
        """Learns of some series that were declared since; whether there may be more of them.

        A line that is still being written is left for later.
        """
        text = self._series_file.read(_LEARNT_AT_ONCE)
        lines = (self._partial + text).split("\n")
        self._partial = lines.pop()
        self._declared.extend(map(self._series, lines))
        return len(text) == _LEARNT_AT_ONCE

    def _series(self, line: str) -> SeriesDeclaration:
        """The series that `SeriesDeclaration.to_line` wrote."""
        kind, name, documentation, names, values, first, bounds = json.loads(line)
        once = self._known.setdefault
        names, values, bounds = tuple(names), tuple(values), tuple(bounds)
        return SeriesDeclaration(
            once(kind, kind), once(name, name), once(documentation, documentation), once(names, names),
            once(values, values), first, once(bounds, bounds),
        )  # fmt: skip

    def doubles(self, series: SeriesDeclaration) -> tuple[float, ...]:
        """What a series has counted by now."""
        return tuple(self._values[series.first : series.first + series.width])

    def read(self) -> Reading:
        """All series declared by now, with their doubles."""
        while self.learn():
            pass
        return [(series, self.doubles(series)) for series in self._declared]

    def value(self, series: SeriesDeclaration) -> float:
        """The first double of a series."""
        return self._values[series.first]

    def find(self, name: str) -> SeriesDeclaration | None:
        """The first declared series of that name, once it is there."""
        if not any(series.name == name for series in self._declared):
            while self.learn():
                pass
        return next((series for series in self._declared if series.name == name), None)

    def close(self) -> None:
        """Lets go of the files."""
        self._values.release()
        self._map.close()
        self._series_file.close()


Reading = Sequence[tuple[SeriesDeclaration, tuple[float, ...]]]
"""What a table holds at one moment."""

"""Counters, gauges and histograms over a `Table`: families by label names, cells by label values.

A cell is looked up once and kept by whoever counts; counting is then one addition. Cells are not locked: each
is written by one thread. Whoever counts a batch adds to the doubles of the table, from a cell's `first` on.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from mixer_py.instruments.table import Reading, SeriesDeclaration, Table

OVERFLOW = "other"
"""Value of every label in the series that takes what no longer gets a series of its own."""

_OVERFLOWS = "mixer_series_overflow_total"

LATENCY_SECONDS = (
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
    0.5, 1.0, 2.5,
)  # fmt: skip
"""Bounds for stages that take microseconds; without opa-envoy-plugin's hole between 5 and 100 ms."""


class Counter:
    """A number that only grows."""

    __slots__ = ("_values", "first")

    def __init__(self, table: Table, series: SeriesDeclaration) -> None:
        self._values = table.values
        self.first = series.first

    def add(self, amount: float = 1.0) -> None:
        """Adds `amount`, which must not be negative."""
        self._values[self.first] += amount

    @property
    def value(self) -> float:
        """What was counted in this process."""
        return self._values[self.first]


class Gauge:
    """A number that is what it is now."""

    __slots__ = ("_values", "first")

    def __init__(self, table: Table, series: SeriesDeclaration) -> None:
        self._values = table.values
        self.first = series.first

    def set(self, value: float) -> None:
        """Replaces the number."""
        self._values[self.first] = value

    @property
    def value(self) -> float:
        """The number as last set in this process."""
        return self._values[self.first]


class Histogram:
    """Counts by bucket, and a sum."""

    __slots__ = ("_bounds", "_sum", "_values", "first")

    def __init__(self, table: Table, series: SeriesDeclaration) -> None:
        self._values = table.values
        self._bounds = series.bounds
        self.first = series.first
        self._sum = series.first + len(series.bounds) + 1

    def observe(self, value: float) -> None:
        """Counts one value; a bucket includes its upper bound."""
        values = self._values
        values[self.first + bisect_left(self._bounds, value)] += 1.0
        values[self._sum] += value

    @property
    def count(self) -> float:
        """How many values were counted in this process."""
        return sum(self._values[self.first : self._sum])

    @property
    def sum(self) -> float:
        """Their sum."""
        return self._values[self._sum]


Cell = TypeVar("Cell", Counter, Gauge, Histogram)


class Family(Generic[Cell]):
    """All series of one metric name."""

    def __init__(
        self,
        table: Table,
        cell: type[Cell],
        name: str,
        documentation: str,
        labels: tuple[str, ...],
        bounds: tuple[float, ...],
        max_label_sets: int,
    ) -> None:
        self.name = name
        self.label_names = labels
        self._table = table
        self._cell: type[Cell] = cell
        self._documentation = documentation
        self._bounds = bounds
        self.max_label_sets = max_label_sets
        self._cells: dict[tuple[str, ...], Cell] = {}
        self.overflowed: Callable[[str], None] = lambda _name: None
        """Told when a label set got no series; the registry sets it, but not for the family that counts this."""

    def labels(self, *values: str) -> Cell:
        """The cell of these label values, made when first asked for.

        Above `max_label_sets` series, or when the table is full, it is the one whose every label is `other`; what
        goes there is not remembered, so that label values from the wire cannot fill the memory.

        Raises:
            ValueError: as many values as label names are needed.
        """
        cell = self._cells.get(values)
        if cell is not None:
            return cell
        if len(values) != len(self.label_names):
            raise ValueError(f"{self.name} has the labels {self.label_names}, got {values}")
        overflow = (OVERFLOW,) * len(values)
        if values != overflow and len(self._cells) < self.max_label_sets:
            cell = self._make(values, last_resort=not values)
        if cell is not None:
            self._cells[values] = cell
            return cell
        other = self._cells.get(overflow) or self._make(overflow, last_resort=True)
        if other is None:
            raise MemoryError(f"no room in the table of metrics for {self.name}")
        self._cells[overflow] = other
        if values != overflow:
            self.overflowed(self.name)
        return other

    def holds(self, values: tuple[str, ...]) -> bool:
        """Whether these label values have a series of their own."""
        return values in self._cells

    def _make(self, values: tuple[str, ...], *, last_resort: bool) -> Cell | None:
        kind = self._cell.__name__.lower()
        series = self._table.declare(
            kind, self.name, self._documentation, self.label_names, values, self._bounds, last_resort=last_resort
        )
        return None if series is None else self._cell(self._table, series)


class Registry:
    """Every metric of one process; made once by whoever composes the rooms, and handed down."""

    def __init__(self, table: Table | None = None) -> None:
        self.table = table or Table()
        self._families: dict[str, Family[Counter] | Family[Gauge] | Family[Histogram]] = {}

    def counter(
        self, name: str, documentation: str, labels: tuple[str, ...] = (), *, max_label_sets: int = 10_000
    ) -> Family[Counter]:
        """The counter family of that name; its name ends in `_total`."""
        return self._family(Counter, name, documentation, labels, (), max_label_sets)

    def gauge(
        self, name: str, documentation: str, labels: tuple[str, ...] = (), *, max_label_sets: int = 10_000
    ) -> Family[Gauge]:
        """The gauge family of that name."""
        return self._family(Gauge, name, documentation, labels, (), max_label_sets)

    def histogram(
        self,
        name: str,
        documentation: str,
        labels: tuple[str, ...] = (),
        *,
        bounds: tuple[float, ...] = LATENCY_SECONDS,
        max_label_sets: int = 10_000,
    ) -> Family[Histogram]:
        """The histogram family of that name, with these upper bounds."""
        return self._family(Histogram, name, documentation, labels, bounds, max_label_sets)

    def _family(
        self,
        cell: type[Cell],
        name: str,
        documentation: str,
        labels: tuple[str, ...],
        bounds: tuple[float, ...],
        max_label_sets: int,
    ) -> Family[Cell]:
        family = self._families.get(name)
        if family is None:
            made = Family(self.table, cell, name, documentation, labels, bounds, max_label_sets)
            self._families[name] = made
            if name != _OVERFLOWS:
                made.overflowed = self._overflowed
            return made
        if family._cell is not cell or family.label_names != labels:  # noqa: SLF001 (its own family)
            raise ValueError(f"{name} is declared twice, with different kinds or labels")
        family.max_label_sets = max_label_sets  # a later snapshot may want another
        return family

    def _overflowed(self, name: str) -> None:
        documentation = "Look-ups of label sets that got no series of their own."
        self.counter(_OVERFLOWS, documentation, ("metric",)).labels(name).add()

    @property
    def declared(self) -> Sequence[SeriesDeclaration]:
        """Every series, in the order in which they were declared."""
        return self.table.declared

    def learn(self) -> bool:
        """See `Table.learn`."""
        return self.table.learn()

    def doubles(self, series: SeriesDeclaration) -> tuple[float, ...]:
        """What one of the series has counted by now."""
        return self.table.doubles(series)

    def read(self) -> Reading:
        """Every series of this process as it is now."""
        return self.table.read()

"""One `/metrics` for all processes: live tables, and what ended processes had counted, as one text.

Counters never go back: when a process ends, its counters are kept; its gauges go with it. Rows that it held and had
neither written nor dropped are booked as dropped with reason `killed`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import add
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from mixer_py.instruments import Clock, Reading, SeriesDeclaration
from mixer_py.runtime.exposition import Spell, head_of, labels_of, spelling_of
from mixer_py.runtime.vital_signs import PRIVATE
from mixer_py.telemetry.booking import GATHERED_ROWS, KILLED, LEFT, ROWS, ROWS_HELP, SPOOL_ROWS

_HIDDEN: Final = PRIVATE | {GATHERED_ROWS}
"""Names that are between the processes and not for `/metrics`."""
_OF_TRAFFIC: Final = "istio_"
"""How names of metrics begin whose labels come from traffic."""
_PIECE_BYTES: Final = 1 << 20
"""About as much text is made at once: a millisecond's work."""
_PIECE_SERIES: Final = 1_000
"""So many series are looked at at once, though most of them are idle and make no text."""

Doubles = tuple[float, ...]
SeriesKey = tuple[tuple[str, ...], tuple[str, ...]]
"""Names and values of labels."""


class Source(Protocol):
    """Whatever holds a table: a registry of this process or the reader of another's."""

    @property
    def declared(self) -> Sequence[SeriesDeclaration]:
        """Every series that is known of, in the order in which they were declared; it only grows."""

    def learn(self) -> bool:
        """Gets to know of some series that are new; whether there may be more."""

    def doubles(self, series: SeriesDeclaration) -> Doubles:
        """What one of the series has counted by now."""


class IdleSeries:
    """Knows which series of Istio's metrics have not changed for long: their labels come and go with traffic.

    What was counted is kept: a series that changes again goes on from where it was, so that no counter goes back.
    """

    def __init__(self, clock: Clock, timeout: Callable[[], float]) -> None:
        """Prepares to watch.

        Args:
            clock: for how long a series has not changed.
            timeout: seconds, as they are set now.
        """
        self._clock = clock
        self._timeout = timeout

    def is_idle(self, series: _Series, doubles: Doubles) -> bool:
        """Whether a series that has these doubles now need not be shown."""
        now = self._clock.monotonic()
        if series.seen != doubles:
            series.seen, series.since = doubles, now
            return False
        return now - series.since > self._timeout()


class _Series:
    """One series over all processes.

    Attributes:
        bounds: of a histogram.
        labels: as they are spelt.
        spell: how its lines are.
        ended: what processes that ended had counted; None for nothing.
        parts: where it is counted now.
        seen: what it had counted when it was last seen to have changed.
        since: when that was, in monotonic seconds.
    """

    __slots__ = ("bounds", "ended", "labels", "parts", "seen", "since", "spell")

    def __init__(self, bounds: Doubles, labels: bytes, spell: Spell) -> None:
        self.bounds, self.labels, self.spell = bounds, labels, spell
        self.ended: Doubles | None = None
        self.parts: tuple[tuple[Source, SeriesDeclaration], ...] = ()
        self.seen: Doubles = ()
        self.since = 0.0

    def doubles(self) -> Doubles | None:
        """What it has counted by now; None when nobody counts it any more."""
        total = self.ended
        for source, series in self.parts:
            total = _sum(total, source.doubles(series))
        return total


def _sum(total: Doubles | None, doubles: Doubles) -> Doubles:
    return doubles if total is None else tuple(map(add, total, doubles))


class _Family:
    """All series of one name.

    Attributes:
        head: what stands before their lines.
        of_traffic: their labels come from traffic.
        series: by names and values of labels.
    """

    __slots__ = ("_spellings", "head", "of_traffic", "series")

    def __init__(self, first: SeriesDeclaration) -> None:
        self.head, self.of_traffic = head_of(first), first.name.startswith(_OF_TRAFFIC)
        self.series: dict[SeriesKey, _Series] = {}
        self._spellings: dict[tuple[Doubles, bool], Spell] = {}

    def spelling(self, declaration: SeriesDeclaration) -> Spell:
        """How such series are spelt; one object for all of them."""
        key = (declaration.bounds, bool(declaration.label_names))
        if key not in self._spellings:
            self._spellings[key] = spelling_of(declaration)
        return self._spellings[key]


class ProcessMetrics:
    """All tables of a mixer."""

    def __init__(self, own: Source, idle: IdleSeries | None = None) -> None:
        """Starts with the supervisor's own registry.

        Args:
            own: that registry.
            idle: knows which series need not be shown; None to show all.
        """
        self._live: dict[Source, int] = {own: 0}
        """How many series of each table are among the families."""
        self._families: dict[str, _Family] = {}
        self._spelt: dict[bytes, bytes] = {}
        """Labels, each set kept once: a request's are those of several metrics."""
        self._idle = idle

    def join(self, source: Source) -> None:
        """A process has started."""
        self._live[source] = 0

    def leave(self, source: Source) -> None:
        """A process has ended: keeps what it counted and books the rows that it held."""
        while self._learn(source):
            pass
        del self._live[source]
        reading = [(declaration, source.doubles(declaration)) for declaration in source.declared]
        for declaration, doubles in reading:
            self._end(source, declaration, doubles)
        for declaration, doubles in _lost_rows(reading):
            series = self._series(declaration)
            series.ended = _sum(series.ended, doubles)

    def total(self, name: str) -> float:
        """The sum of the counters or gauges of that name over all processes."""
        for source in self._live:
            while self._learn(source):
                pass
        family = self._families.get(name)
        members = [] if family is None else [series.doubles() for series in family.series.values()]
        return sum(doubles[0] for doubles in members if doubles is not None)

    def values(self, name: str) -> Iterator[tuple[Mapping[str, str], float]]:
        """Labels and sum of each counter of that name, as far as processes have been heard."""
        family = self._families.get(name)
        for (names, values), series in family.series.items() if family is not None else ():
            doubles = series.doubles()
            if doubles is not None:
                yield dict(zip(names, values, strict=True)), doubles[0]

    def exposition(self, extra: Iterable[Metric] = ()) -> Iterator[bytes]:
        """The text that Prometheus scrapes, in pieces; between two of them time may pass, and processes come and go.

        Each piece is made in some milliseconds; one may be empty.
        """
        for source in tuple(self._live):
            while source in self._live and self._learn(source):
                yield b""
        text: list[bytes] = []
        size = looked = 0
        for _, family in sorted(self._families.items()):
            head = family.head
            for series in tuple(family.series.values()):
                lines = self._lines(series, family)
                if lines:
                    text += (head, lines)
                    head, size = b"", size + len(lines)
                looked += 1
                if size >= _PIECE_BYTES or looked >= _PIECE_SERIES:
                    yield b"".join(text)
                    text, size, looked = [], 0, 0
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collected([*extra]))
        yield b"".join([*text, generate_latest(registry)])

    def _lines(self, series: _Series, family: _Family) -> bytes:
        """The lines of a series; empty when it is not shown."""
        doubles = series.doubles()
        if doubles is None or (family.of_traffic and self._idle is not None and self._idle.is_idle(series, doubles)):
            return b""
        return series.spell(series.labels, doubles)

    def _learn(self, source: Source) -> bool:
        """Takes up some series that are new; whether there may be more."""
        more = source.learn()
        declared = source.declared
        for place in range(self._live[source], len(declared)):
            declaration = declared[place]
            if declaration.name not in _HIDDEN:
                self._series(declaration).parts += ((source, declaration),)
        self._live[source] = len(declared)
        return more

    def _series(self, declaration: SeriesDeclaration) -> _Series:
        """The one that a process's series is part of."""
        family = self._families.get(declaration.name)
        if family is None:
            family = self._families[declaration.name] = _Family(declaration)
        key = (declaration.label_names, declaration.label_values)
        series = family.series.get(key)
        if series is None or series.bounds != declaration.bounds:  # what other bounds counted cannot be added
            spelt = labels_of(declaration)
            labels = self._spelt.setdefault(spelt, spelt)
            series = family.series[key] = _Series(declaration.bounds, labels, family.spelling(declaration))
        return series

    def _end(self, source: Source, declaration: SeriesDeclaration, doubles: Doubles) -> None:
        """Lets a process's series go, and keeps what it counted; of gauges nothing."""
        if declaration.name in _HIDDEN:
            return
        of_name = self._families[declaration.name].series
        key = (declaration.label_names, declaration.label_values)
        series = of_name.get(key)
        if series is None or all(part is not declaration for _, part in series.parts):
            return  # it counts by other bounds by now
        series.parts = tuple((one, part) for one, part in series.parts if one is not source)
        if declaration.kind != "gauge":
            series.ended = _sum(series.ended, doubles)
        elif not series.parts:
            del of_name[key]


class _Collected(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return iter(self._metrics)


def _lost_rows(reading: Reading) -> Reading:
    """Rows received that were neither written nor dropped: those in the spool as left, others as dropped by `killed`.

    What was to become rows is received, and dropped as well. What is left in the spool is adopted by another process;
    the gauge of it may be a moment old, and says more than was held when a block had just been written.
    """
    held: dict[str, float] = defaultdict(float)
    on_disk: dict[str, float] = defaultdict(float)
    gathered: dict[str, float] = defaultdict(float)
    for series, values in reading:
        labels = dict(series.labels)
        if series.name == ROWS:
            held[labels["table"]] += values[0] if labels["state"] in {"received", "adopted"} else 0.0
            held[labels["table"]] -= values[0] if labels["state"] in {"written", "dropped", LEFT} else 0.0
        elif series.name == SPOOL_ROWS:
            on_disk[labels["table"]] += values[0]
        elif series.name == GATHERED_ROWS:
            gathered[labels["table"]] += values[0]
    booked = []
    for table, rows in held.items():
        left = min(rows, on_disk[table])
        booked += [
            (table, "received", "", gathered[table]),
            (table, LEFT, "", left),
            (table, "dropped", KILLED, rows - left + gathered[table]),
        ]
    return [
        (
            SeriesDeclaration("counter", ROWS, ROWS_HELP, ("table", "state", "reason"), (table, state, reason), 0),
            (rows,),
        )
        for table, state, reason, rows in booked
        if rows > 0
    ]

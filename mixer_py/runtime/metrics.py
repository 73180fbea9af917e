"""One `/metrics` for all processes: live tables, and what ended processes had counted, as one text.

Counters never go back: when a process ends, its counters are kept; its gauges go with it. Rows that it held and had
neither written nor dropped are booked as dropped with reason `killed`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from mixer_py.instruments import Clock, Reading, SeriesDeclaration
from mixer_py.runtime.vital_signs import PRIVATE
from mixer_py.telemetry.booking import KILLED, LEFT, ROWS, ROWS_HELP, SPOOL_ROWS

_OF_TRAFFIC = "istio_"
"""How names of metrics begin whose labels come from traffic."""

SeriesKey = tuple[str, tuple[tuple[str, str], ...]]


class Source(Protocol):
    """Whatever holds a table: a registry of this process or the reader of another's."""

    def read(self) -> Reading:
        """Every series with its doubles."""


class Totals:
    """Series of several processes, added up."""

    def __init__(self) -> None:
        self._declared: dict[SeriesKey, SeriesDeclaration] = {}
        self._values: dict[SeriesKey, list[float]] = {}

    def add(self, reading: Reading, *, gauges: bool = True) -> None:
        """Adds a table; without `gauges`, only what can be counted for ever."""
        for series, values in reading:
            if series.kind == "gauge" and not gauges:
                continue
            key = (series.name, series.labels)
            held = self._values.get(key)
            if held is None or len(held) != len(values):
                self._declared[key] = series
                self._values[key] = list(values)
            else:
                for index, value in enumerate(values):
                    held[index] += value

    def read(self) -> Reading:
        """The sums."""
        return [(series, tuple(self._values[key])) for key, series in self._declared.items()]


class IdleSeries:
    """Leaves out series of Istio's metrics that have not changed for long: their labels come and go with traffic.

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
        self._seen: dict[SeriesKey, tuple[tuple[float, ...], float]] = {}

    def without(self, reading: Reading) -> Reading:
        """The series that are to be shown."""
        now, timeout = self._clock.monotonic(), self._timeout()
        shown = []
        for series, values in reading:
            if series.name.startswith(_OF_TRAFFIC):
                key = (series.name, series.labels)
                before = self._seen.get(key)
                if before is None or before[0] != values:
                    self._seen[key] = (values, now)
                elif now - before[1] > timeout:
                    continue
            shown.append((series, values))
        return shown


class ProcessMetrics:
    """All tables of a mixer."""

    def __init__(self, own: Source, idle: IdleSeries | None = None) -> None:
        """Starts with the supervisor's own registry.

        Args:
            own: that registry.
            idle: knows which series need not be shown; None to show all.
        """
        self._live: list[Source] = [own]
        self._ended = Totals()
        self._idle = idle

    def join(self, source: Source) -> None:
        """A process has started."""
        self._live.append(source)

    def leave(self, source: Source) -> None:
        """A process has ended: keeps what it counted and books the rows that it held."""
        self._live.remove(source)
        reading = source.read()
        self._ended.add(reading, gauges=False)
        self._ended.add(_lost_rows(reading))

    def read(self) -> Reading:
        """Every series over all processes, live and ended."""
        totals = Totals()
        totals.add(self._ended.read())
        for source in self._live:
            totals.add(source.read())
        return totals.read()

    def total(self, name: str) -> float:
        """The sum of the counters or gauges of that name over all processes."""
        return sum(values[0] for series, values in self.read() if series.name == name)

    def exposition(self, extra: Iterable[Metric] = ()) -> bytes:
        """The text that Prometheus scrapes."""
        registry = CollectorRegistry(auto_describe=False)
        reading = self.read() if self._idle is None else self._idle.without(self.read())
        registry.register(_Collected([*_families(reading), *extra]))
        return generate_latest(registry)


class _Collected(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return iter(self._metrics)


def _lost_rows(reading: Reading) -> Reading:
    """Rows received that were neither written nor dropped: those in the spool as left, others as dropped by `killed`.

    What is left in the spool is adopted by another process. The gauge of it may be a moment old, and says more than
    was held when a block had just been written.
    """
    held: dict[str, float] = defaultdict(float)
    on_disk: dict[str, float] = defaultdict(float)
    for series, values in reading:
        labels = dict(series.labels)
        if series.name == ROWS:
            held[labels["table"]] += values[0] if labels["state"] in {"received", "adopted"} else 0.0
            held[labels["table"]] -= values[0] if labels["state"] in {"written", "dropped", LEFT} else 0.0
        elif series.name == SPOOL_ROWS:
            on_disk[labels["table"]] += values[0]
    booked = []
    for table, rows in held.items():
        left = min(rows, on_disk[table])
        booked += [(table, LEFT, "", left), (table, "dropped", KILLED, rows - left)]
    return [
        (
            SeriesDeclaration("counter", ROWS, ROWS_HELP, (("table", table), ("state", state), ("reason", reason)), 0),
            (rows,),
        )
        for table, state, reason, rows in booked
        if rows > 0
    ]


def _families(reading: Reading) -> Iterator[Metric]:
    by_name: dict[str, list[tuple[SeriesDeclaration, tuple[float, ...]]]] = defaultdict(list)
    for series, values in reading:
        if series.name not in PRIVATE:
            by_name[series.name].append((series, values))
    for name, members in sorted(by_name.items()):
        first = members[0][0]
        labels = [label for label, _ in first.labels]
        family: Metric
        if first.kind == "histogram":
            family = histogram = HistogramMetricFamily(name, first.documentation, labels=labels)
            for series, values in members:
                histogram.add_metric([value for _, value in series.labels], _cumulative(series, values), values[-1])
        elif first.kind == "counter":
            family = counter = CounterMetricFamily(name, first.documentation, labels=labels)
            for series, values in members:
                counter.add_metric([value for _, value in series.labels], values[0])
        else:
            family = gauge = GaugeMetricFamily(name, first.documentation, labels=labels)
            for series, values in members:
                gauge.add_metric([value for _, value in series.labels], values[0])
        yield family


def _cumulative(series: SeriesDeclaration, values: tuple[float, ...]) -> list[tuple[str, float]]:
    buckets: list[tuple[str, float]] = []
    total = 0.0
    for bound, count in zip((*series.bounds, float("inf")), values, strict=False):  # the last double is the sum
        total += count
        buckets.append((floatToGoString(bound), total))  # type: ignore[no-untyped-call]  # the spelling of bounds
    return buckets

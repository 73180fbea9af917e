"""Istio's standard metrics, counted by group over each batch of rows.

Names, labels and their order, buckets and values as reference/mixer.md 3 has them, so that Istio's own dashboards
work unchanged.
Not for: mixer's own metrics, or the labels' values (`label_sets.py`).
"""

from __future__ import annotations

from typing import Final, Generic

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mixer_py.instruments import Cell, Counter, Family, Histogram, Registry, Table
from mixer_py.telemetry.grouping import Alike, Groups, Numbers, add, observe
from mixer_py.telemetry.istio_names import BUCKETS, DURATION, HTTP_ONLY, REQUEST_BYTES, RESPONSE_BYTES
from mixer_py.telemetry.label_sets import LabelSets, Texts
from mixer_py.telemetry.settings import PrometheusSettings

_TCP: Final = {"request_protocol": "tcp"}
_NOT_KNOWN: Final = -1


class _Series(Generic[Cell]):
    """A family, and where the doubles of each set of labels begin."""

    def __init__(self, family: Family[Cell], labels: LabelSets) -> None:
        self._family: Family[Cell] = family
        self._labels = labels
        self._texts: list[Texts] = []
        self._first: Groups = np.zeros(0, np.int64)

    def places(self, sets: Groups) -> Groups:
        """For each row, of which the number of its set of labels is known, where its series begins."""
        texts = self._labels.texts
        if self._texts is not texts:
            self._texts, self._first = texts, np.zeros(0, np.int64)
        if len(texts) > len(self._first):
            more = np.full(len(texts), _NOT_KNOWN, np.int64)  # twice the room, so that it seldom grows
            self._first = np.concatenate((self._first, more))
        places = self._first[sets]
        unknown = places < 0
        if not unknown.any():
            return places
        passing = []
        for number in np.unique(sets[unknown]).tolist():
            self._first[number] = self._family.labels(*texts[number]).first
            if not self._family.holds(texts[number]):  # it is counted elsewhere, each time anew
                passing.append(number)
        places = self._first[sets]
        self._first[passing] = _NOT_KNOWN
        return places


class IstioMetrics:
    """Counts rows of `requests` and of `connections` into Istio's metrics."""

    def __init__(self, registry: Registry, settings: PrometheusSettings | None = None) -> None:
        """Declares the metrics.

        Args:
            registry: gets them.
            settings: buckets, labels and the bound of label sets.
        """
        settings = settings or PrometheusSettings()
        self._settings, self._registry = settings, registry
        most = settings.max_label_sets
        self._labels = LabelSets(settings.drop_labels, most=most)
        self._requests = self._counter("istio_requests_total", "Requests, by Istio's labels.", self._labels)
        self._asked = self._counter("istio_request_messages_total", "Messages of gRPC from clients.", self._labels)
        self._answered = self._counter("istio_response_messages_total", "Messages of gRPC to clients.", self._labels)
        buckets = settings.buckets
        self._bounds = (
            buckets.istio_request_duration_milliseconds or BUCKETS,
            buckets.istio_request_bytes or BUCKETS,
            buckets.istio_response_bytes or BUCKETS,
        )
        self._measured = (
            self._histogram(DURATION, "Duration of requests in milliseconds.", self._bounds[0]),
            self._histogram(REQUEST_BYTES, "Bytes of requests on the wire.", self._bounds[1]),
            self._histogram(RESPONSE_BYTES, "Bytes of responses on the wire.", self._bounds[2]),
        )
        tcp = self._tcp_labels = LabelSets({*settings.drop_labels, *HTTP_ONLY}, _TCP, most)
        self._sent = self._counter("istio_tcp_sent_bytes_total", "Bytes sent to clients over TCP.", tcp)
        self._received = self._counter("istio_tcp_received_bytes_total", "Bytes received from clients over TCP.", tcp)
        self._opened = self._counter("istio_tcp_connections_opened_total", "TCP connections opened.", tcp)
        self._closed = self._counter("istio_tcp_connections_closed_total", "TCP connections closed.", tcp)

    def count_requests(
        self,
        rows: pa.RecordBatch,
        alike: Alike | None = None,
        for_metrics: pa.RecordBatch | None = None,  # noqa: ARG002 (Istio's labels are columns of rows)
    ) -> None:
        """Counts each finished request once.

        Args:
            rows: with the columns of `requests`, as AccessLogDecoder gives them.
            alike: what the decoder knows of them.
            for_metrics: what only the user's metrics read.
        """
        if not rows.num_rows:
            return
        sets, table = self._labels.of(rows, alike), self._registry.table
        add(table, self._requests.places(sets), 1.0)
        for series, column in ((self._asked, "request_messages"), (self._answered, "response_messages")):
            _add(table, series, sets, _numbers(rows, column))
        measured = (
            _numbers(rows, "response_duration") / 1000.0,  # microseconds
            _numbers(rows, "request_total_size"),
            _numbers(rows, "response_total_size"),
        )
        for histogram, values, bounds in zip(self._measured, measured, self._bounds, strict=True):
            observe(table, histogram.places(sets), values, bounds)

    def count_connections(self, rows: pa.RecordBatch, opened: npt.NDArray[np.bool_]) -> None:
        """Counts what each report about a TCP connection adds.

        Args:
            rows: with the columns of `connections`, as AccessLogDecoder gives them.
            opened: which of them count as the opening of their connection.
        """
        if not rows.num_rows:
            return
        sets, table = self._tcp_labels.of(rows), self._registry.table
        closed = pc.equal(rows.column("connection_event"), "close").to_numpy(zero_copy_only=False)
        for series, amounts in (
            (self._sent, _numbers(rows, "connection_sent_bytes")),
            (self._received, _numbers(rows, "connection_received_bytes")),
            (self._opened, opened.astype(np.float64)),
            (self._closed, closed.astype(np.float64)),
        ):
            _add(table, series, sets, amounts)

    def _counter(self, name: str, documentation: str, labels: LabelSets) -> _Series[Counter]:
        most = self._settings.max_label_sets
        return _Series(self._registry.counter(name, documentation, labels.names, max_label_sets=most), labels)

    def _histogram(self, name: str, documentation: str, bounds: tuple[float, ...]) -> _Series[Histogram]:
        most, labels = self._settings.max_label_sets, self._labels
        family = self._registry.histogram(name, documentation, labels.names, bounds=bounds, max_label_sets=most)
        return _Series(family, labels)


def _add(table: Table, series: _Series[Counter], sets: Groups, amounts: Numbers) -> None:
    """Adds to each set's series; one that nothing is added to is not made."""
    if amounts.any():
        some = amounts > 0
        add(table, series.places(sets[some]), amounts[some])


def _numbers(rows: pa.RecordBatch, name: str) -> Numbers:
    values: Numbers = rows.column(name).to_numpy(zero_copy_only=False).astype(np.float64)
    return values

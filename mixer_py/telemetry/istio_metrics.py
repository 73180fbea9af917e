"""Istio's standard metrics, counted by group over each batch of rows.

Names, labels and their order, buckets and values as reference/mixer.md 3 has them, so that Istio's own dashboards
work unchanged.
Not for: mixer's own metrics, or the labels' values (`label_sets.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mixer_py.instruments import Counter, Family, Histogram, Registry
from mixer_py.telemetry.grouping import Alike, Groups, Numbers, observe
from mixer_py.telemetry.istio_names import BUCKETS, DURATION, HTTP_ONLY, REQUEST_BYTES, RESPONSE_BYTES
from mixer_py.telemetry.label_sets import LabelSets, Texts
from mixer_py.telemetry.settings import PrometheusSettings

_TCP: Final = {"request_protocol": "tcp"}


class _Cells(NamedTuple):
    """The series of one set of labels of finished requests."""

    requests: Counter
    measured: tuple[Histogram, ...]


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
        self._labels = LabelSets(settings.drop_labels)
        self._requests = self._counter("istio_requests_total", "Requests, by Istio's labels.", self._labels)
        self._asked = self._counter("istio_request_messages_total", "Messages of gRPC from clients.", self._labels)
        self._answered = self._counter("istio_response_messages_total", "Messages of gRPC to clients.", self._labels)
        buckets = settings.buckets
        self._bounds = (
            buckets.istio_request_duration_milliseconds or BUCKETS,
            buckets.istio_request_bytes or BUCKETS,
            buckets.istio_response_bytes or BUCKETS,
        )
        self._histograms = (
            self._histogram(DURATION, "Duration of requests in milliseconds.", self._bounds[0]),
            self._histogram(REQUEST_BYTES, "Bytes of requests on the wire.", self._bounds[1]),
            self._histogram(RESPONSE_BYTES, "Bytes of responses on the wire.", self._bounds[2]),
        )
        self._cells: dict[Texts, _Cells] = {}  # of label sets with series of their own, which are bounded
        tcp = self._tcp_labels = LabelSets({*settings.drop_labels, *HTTP_ONLY}, _TCP)
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
        groups, sets = self._labels.grouped(rows, alike)
        cells = [self._cells_of(labels) for labels in sets]
        for cell, amount in zip(cells, _counts(groups, len(sets)), strict=True):
            cell.requests.add(amount)
        measured = (
            _numbers(rows, "response_duration") / 1000.0,  # microseconds
            _numbers(rows, "request_total_size"),
            _numbers(rows, "response_total_size"),
        )
        for family, column in ((self._asked, "request_messages"), (self._answered, "response_messages")):
            amounts = _numbers(rows, column)
            if amounts.any():
                _add(family, sets, np.bincount(groups, weights=amounts, minlength=len(sets)).tolist())
        for place, (values, bounds) in enumerate(zip(measured, self._bounds, strict=True)):
            observe([cell.measured[place] for cell in cells], groups, values, bounds)

    def count_connections(self, rows: pa.RecordBatch, opened: npt.NDArray[np.bool_]) -> None:
        """Counts what each report about a TCP connection adds.

        Args:
            rows: with the columns of `connections`, as AccessLogDecoder gives them.
            opened: which of them count as the opening of their connection.
        """
        if not rows.num_rows:
            return
        groups, sets = self._tcp_labels.grouped(rows)
        closed = pc.equal(rows.column("connection_event"), "close").to_numpy(zero_copy_only=False)
        for family, amounts in (
            (self._sent, _numbers(rows, "connection_sent_bytes")),
            (self._received, _numbers(rows, "connection_received_bytes")),
            (self._opened, opened),
            (self._closed, closed),
        ):
            _add(family, sets, np.bincount(groups, weights=amounts, minlength=len(sets)).tolist())

    def _cells_of(self, labels: Texts) -> _Cells:
        cells = self._cells.get(labels)
        if cells is None:
            cells = _Cells(self._requests.labels(*labels), tuple(family.labels(*labels) for family in self._histograms))
            if all(
                family.holds(labels) for family in (self._requests, *self._histograms)
            ):  # else it is looked up again
                self._cells[labels] = cells
        return cells

    def _counter(self, name: str, documentation: str, labels: LabelSets) -> Family[Counter]:
        most = self._settings.max_label_sets
        return self._registry.counter(name, documentation, labels.names, max_label_sets=most)

    def _histogram(self, name: str, documentation: str, bounds: tuple[float, ...]) -> Family[Histogram]:
        most = self._settings.max_label_sets
        return self._registry.histogram(name, documentation, self._labels.names, bounds=bounds, max_label_sets=most)


def _add(family: Family[Counter], sets: Iterable[Texts], amounts: Iterable[float]) -> None:
    """Adds to each set's series; one that nothing is added to is not made."""
    for labels, amount in zip(sets, amounts, strict=True):
        if amount:
            family.labels(*labels).add(amount)


def _counts(groups: Groups, length: int) -> list[float]:
    amounts: list[float] = np.bincount(groups, minlength=length).tolist()
    return amounts


def _numbers(rows: pa.RecordBatch, name: str) -> Numbers:
    values: Numbers = rows.column(name).to_numpy(zero_copy_only=False).astype(np.float64)
    return values

"""Istio's standard HTTP metrics, counted by group over each batch of rows.

Names, labels and their order, buckets and values as reference/mixer.md 3 has them, so that Istio's own dashboards
work unchanged. Work in Python is done once for each distinct set of labels in a batch.
Not for: mixer's own metrics, or TCP.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mixer_py.instruments import Counter, Histogram, Registry
from mixer_py.telemetry.access_log.streams import SOURCE

LABELS: Final = (
    "reporter", "source_workload", "source_canonical_service", "source_canonical_revision",
    "source_workload_namespace", "source_principal", "source_app", "source_version", "source_cluster",
    "destination_workload", "destination_workload_namespace", "destination_principal", "destination_app",
    "destination_version", "destination_service", "destination_canonical_service", "destination_canonical_revision",
    "destination_service_name", "destination_service_namespace", "destination_cluster", "request_protocol",
    "response_code", "grpc_response_status", "response_flags", "connection_security_policy",
)  # fmt: skip
"""The labels, in Istio's order."""

BUCKETS: Final = (
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0, 30_000.0, 60_000.0,
    300_000.0, 600_000.0, 1_800_000.0, 3_600_000.0,
)  # fmt: skip
"""Envoy's default bounds, of all three histograms: milliseconds and bytes alike."""

_COLUMN_OF: Final = {
    "source_workload": "source_workload_name", "destination_workload": "destination_workload_name",
    "destination_service": "destination_service_host", "request_protocol": "context_protocol",
    "grpc_response_status": "response_grpc_status", "connection_security_policy": "connection_mtls",
}  # fmt: skip
"""Where a label's column has another name."""

_REVISIONS: Final = frozenset(("source_canonical_revision", "destination_canonical_revision"))
_SPOKEN: Final = frozenset(("reporter", "grpc_response_status", "response_flags", "request_protocol"))
"""Labels without a word for what is not known."""

_COLUMNS: Final = tuple(_COLUMN_OF.get(label, label) for label in LABELS)
_PRINCIPALS: Final = tuple(LABELS.index(label) for label in ("source_principal", "destination_principal"))
_REPORTER: Final = LABELS.index("reporter")
_POLICY: Final = LABELS.index("connection_security_policy")
_DEFAULTS: Final = tuple("latest" if label in _REVISIONS else "" if label in _SPOKEN else "unknown" for label in LABELS)
_MOST_SETS: Final = 10_000
"""Distinct sets of values remembered between batches; above it they are looked up again."""
_LARGEST_CODE: Final = 2**62

Values = tuple[object, ...]
Groups = npt.NDArray[np.int64]


class IstioMetrics:
    """Counts rows of `requests` into Istio's metrics."""

    def __init__(self, registry: Registry) -> None:
        """Declares the metrics; the registry's cap on label sets holds for each."""
        self._requests = registry.counter("istio_requests_total", "Requests, by Istio's labels.", LABELS)
        self._durations = registry.histogram(
            "istio_request_duration_milliseconds", "Duration of requests in milliseconds.", LABELS, bounds=BUCKETS
        )
        self._received = registry.histogram(
            "istio_request_bytes", "Bytes of requests on the wire.", LABELS, bounds=BUCKETS
        )
        self._sent = registry.histogram(
            "istio_response_bytes", "Bytes of responses on the wire.", LABELS, bounds=BUCKETS
        )
        self._cells: dict[Values, tuple[Counter, Histogram, Histogram, Histogram]] = {}

    def count(self, rows: pa.RecordBatch) -> None:
        """Counts each row once.

        Args:
            rows: with the columns of `requests`, as AccessLogDecoder gives them.
        """
        if not rows.num_rows:
            return
        groups, sets = _grouped(rows)
        cells = [self._cells_of(values) for values in sets]
        for (counter, *_), amount in zip(cells, np.bincount(groups, minlength=len(sets)).tolist(), strict=True):
            counter.add(amount)
        measured = (
            _numbers(rows, "response_duration") / 1000.0,  # microseconds
            _numbers(rows, "request_total_size"),
            _numbers(rows, "response_total_size"),
        )
        width = len(BUCKETS) + 1
        for place, values in enumerate(measured, 1):
            # side="left": a bucket includes its upper bound.
            slots = groups * width + np.searchsorted(BUCKETS, values, side="left")
            counts = np.bincount(slots, minlength=len(sets) * width).reshape(-1, width).tolist()
            sums = np.bincount(groups, weights=values, minlength=len(sets)).tolist()
            for cell, buckets, total in zip(cells, counts, sums, strict=True):
                cell[place].observe_counts(buckets, total)  # type: ignore[union-attr]

    def _cells_of(self, values: Values) -> tuple[Counter, Histogram, Histogram, Histogram]:
        cells = self._cells.get(values)
        if cells is None:
            if len(self._cells) >= _MOST_SETS:
                self._cells.clear()
            labels = _labels(values)
            cells = self._cells[values] = (
                self._requests.labels(*labels),
                self._durations.labels(*labels),
                self._received.labels(*labels),
                self._sent.labels(*labels),
            )
        return cells


def _labels(values: Values) -> tuple[str, ...]:
    """Label values from column values, by Istio's rules."""
    labels = [str(value) if value != "" else default for value, default in zip(values, _DEFAULTS, strict=True)]
    for place in _PRINCIPALS:
        if "://" not in labels[place]:  # Istio knows URI names only; a DNS name or a subject is none
            labels[place] = "unknown"
    if labels[_REPORTER] == SOURCE:
        labels[_POLICY] = "unknown"
    else:
        labels[_POLICY] = "mutual_tls" if values[_POLICY] else "none"
    return tuple(labels)


def _numbers(rows: pa.RecordBatch, name: str) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = rows.column(name).to_numpy(zero_copy_only=False).astype(np.float64)
    return values


def _grouped(rows: pa.RecordBatch) -> tuple[Groups, list[Values]]:
    """For each row the number of its group, and for each group the values of the columns behind the labels."""
    encoded = [rows.column(name) for name in _COLUMNS]
    encoded = [pc.dictionary_encode(column) for column in encoded]
    code: Groups = np.zeros(rows.num_rows, dtype=np.int64)
    size = 1
    for column in encoded:
        distinct = len(column.dictionary)
        if distinct > 1:
            if size > _LARGEST_CODE // distinct:  # the product no longer fits: number the groups so far
                code = np.unique(code, return_inverse=True)[1].astype(np.int64)
                size = rows.num_rows
            code = code * distinct + column.indices.to_numpy(zero_copy_only=False)
            size *= distinct
    _, first, groups = np.unique(code, return_index=True, return_inverse=True)
    columns = [column.take(pa.array(first)).to_pylist() for column in encoded]
    return groups.astype(np.int64), list(zip(*columns, strict=True))

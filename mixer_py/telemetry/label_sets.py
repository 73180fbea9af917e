"""Istio's labels of a batch of rows, once for each distinct set of the values that they are made of.

Not for: which metrics there are (`istio_metrics.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

import pyarrow as pa

from mixer_py.telemetry.access_log.streams import SOURCE
from mixer_py.telemetry.grouping import Alike, Groups, Values, codes, encoded, numbered
from mixer_py.telemetry.istio_names import LABELS

_COLUMN_OF: Final = {
    "source_workload": "source_workload_name", "destination_workload": "destination_workload_name",
    "destination_service": "destination_service_host", "request_protocol": "context_protocol",
    "grpc_response_status": "response_grpc_status", "connection_security_policy": "connection_mtls",
}  # fmt: skip
"""Where a label's column has another name."""

_REVISIONS: Final = frozenset(("source_canonical_revision", "destination_canonical_revision"))
_SPOKEN: Final = frozenset(("reporter", "grpc_response_status", "response_flags", "request_protocol"))
"""Labels without a word for what is not known."""
_PRINCIPALS: Final = frozenset(("source_principal", "destination_principal"))
_POLICY: Final = "connection_security_policy"

LONGEST: Final = 256
"""Characters of a label's value; what is longer is cut, for somebody may send a megabyte."""
_MOST_SETS: Final = 10_000
"""Distinct sets of values remembered between batches; above it they are looked up again."""
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})

Texts = tuple[str, ...]


class LabelSets:
    """The labels of one kind of rows.

    Attributes:
        names: of the labels, in Istio's order.
    """

    def __init__(self, without: Collection[str], fixed: Mapping[str, str] = _NOTHING) -> None:
        """Decides what is read.

        Args:
            without: labels that are left out.
            fixed: labels whose value no column holds.
        """
        self.names = tuple(label for label in LABELS if label not in without)
        self._fixed = fixed
        read = [label for label in self.names if label not in fixed]
        if _POLICY in read and "reporter" not in read:  # what one side knows of the policy the other does not
            read.append("reporter")
        self._read = tuple(read)
        self._columns = [_COLUMN_OF.get(label, label) for label in read]
        self._known: dict[Values, Texts] = {}

    def grouped(self, rows: pa.RecordBatch, alike: Alike | None = None) -> tuple[Groups, list[Texts]]:
        """For each row the number of its group, and for each group the values of its labels.

        Several groups may have the same labels, where a label's value says less than its column's.

        Args:
            rows: with the columns that labels are made of.
            alike: what is known of these rows; it spares the work of telling them apart by its columns.
        """
        told = () if alike is None else alike.columns
        columns = [encoded(rows.column(name)) for name in self._columns if name not in told]
        parts = [(codes(column), len(column.dictionary)) for column in columns]
        if alike is not None:
            parts.append((alike.groups, alike.count))
        first, groups = numbered(parts, rows.num_rows)
        sample = rows.select(self._columns).take(pa.array(first))
        values = [column.to_numpy(zero_copy_only=False).tolist() for column in sample.columns]
        sets = zip(*values, strict=True) if values else [()] * len(first)
        return groups, [self._texts(each) for each in sets]

    def _texts(self, values: Values) -> Texts:
        texts = self._known.get(values)
        if texts is None:
            texts = self._worded(dict(zip(self._read, values, strict=True)))
            if all(not isinstance(value, str) or len(value) <= LONGEST for value in values):
                if len(self._known) >= _MOST_SETS:
                    self._known.clear()
                self._known[values] = texts
        return texts

    def _worded(self, values: Mapping[str, object]) -> Texts:
        """Values by Istio's rules."""
        texts = {label: str(value)[:LONGEST] or _unknown(label) for label, value in values.items()}
        texts.update(self._fixed)
        for label in _PRINCIPALS & texts.keys():
            if "://" not in texts[label]:  # Istio knows URI names only; a DNS name or a subject is none
                texts[label] = "unknown"
        if _POLICY in values:
            known = "mutual_tls" if values[_POLICY] else "none"
            texts[_POLICY] = "unknown" if values["reporter"] == SOURCE else known
        return tuple(texts[label] for label in self.names)


def _unknown(label: str) -> str:
    return "latest" if label in _REVISIONS else "" if label in _SPOKEN else "unknown"

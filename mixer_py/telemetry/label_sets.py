"""Istio's labels of a batch of rows, once for each distinct set of the values that they are made of.

A set of labels gets a number when it is first seen, so that a set that came before is known by two numbers: what the
decoder knows of both sides, and the values of the few other columns. None of its texts is looked at again.
Not for: which metrics there are (`istio_metrics.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
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
_LEAST_ROOM: Final = 10_000
"""Sets of labels that are remembered at least; above its room all are forgotten and looked up again."""
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_NO_COLUMNS: Final[frozenset[str]] = frozenset()

Texts = tuple[str, ...]


_Key = tuple[int, int]
"""What the decoder knows of a row, and the number of the other values."""


class _Remembered:
    """What is known of rows as long as the decoder's keys mean the same, where it tells the same columns.

    Attributes:
        columns: those of which the decoder tells nothing.
        numbers: of their sets of values.
        sets: the numbers of sets of labels.
    """

    __slots__ = ("columns", "numbers", "sets")

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = columns
        self.numbers: dict[Values, int] = {}
        self.sets: dict[_Key, int] = {}


class LabelSets:
    """The labels of one kind of rows.

    Attributes:
        names: of the labels, in Istio's order.
        texts: values of labels by number of their set; another list once all were forgotten.
    """

    def __init__(self, without: Collection[str], fixed: Mapping[str, str] = _NOTHING, most: int = 0) -> None:
        """Decides what is read.

        Args:
            without: labels that are left out.
            fixed: labels whose value no column holds.
            most: sets of labels that are worth being remembered.
        """
        self._most = max(2 * most, _LEAST_ROOM)  # those that have no series of their own come again, too
        self.names = tuple(label for label in LABELS if label not in without)
        self._fixed = fixed
        read = [label for label in self.names if label not in fixed]
        if _POLICY in read and "reporter" not in read:  # what one side knows of the policy the other does not
            read.append("reporter")
        self._read = tuple(read)
        self._columns = [_COLUMN_OF.get(label, label) for label in read]
        self._era: object = None
        self._forget()

    def _forget(self) -> None:
        self.texts: list[Texts] = []
        self._numbers: dict[Texts, int] = {}
        self._once: dict[str, str] = {}
        """Texts, each kept once: most sets have most of them in common."""
        self._remembered: dict[frozenset[str], _Remembered] = {}

    def of(self, rows: pa.RecordBatch, alike: Alike | None = None) -> Groups:
        """For each row the number of its set of labels.

        Args:
            rows: with the columns that labels are made of.
            alike: what is known of these rows; it spares the work of telling them apart by its columns.
        """
        remembered = self._for(alike)
        encodings = [encoded(rows.column(name)) for name in remembered.columns]
        parts = [(codes(one), len(one.dictionary)) for one in encodings]
        first, others = numbered(parts, rows.num_rows)
        values = [_at(_objects(one.dictionary), part[first]) for one, (part, _) in zip(encodings, parts, strict=True)]
        sets = list(zip(*values, strict=True)) if values else [()] * len(first)
        numbers = np.array([self._number_of(each, remembered.numbers) for each in sets], np.int64)
        keys = np.zeros(len(first), np.int64)
        groups = others
        if alike is not None:
            first, groups = numbered([(others, len(first)), (alike.groups, alike.count)], rows.num_rows)
            keys, numbers = alike.keys[alike.groups[first]], numbers[others[first]]
        pairs = list(zip(keys.tolist(), numbers.tolist(), strict=True))
        find = remembered.sets.get
        found = [find(pair, -1) for pair in pairs]
        if -1 in found:
            self._find(rows, first, pairs, found, remembered.sets)
        return np.array(found, np.int64)[groups]

    def _for(self, alike: Alike | None) -> _Remembered:
        """What is remembered, as far as it still holds."""
        era, told = (None, _NO_COLUMNS) if alike is None else (alike.era, alike.columns)
        if era is not self._era:
            self._remembered, self._era = {}, era
        if len(self.texts) > self._most:
            self._forget()
        remembered = self._remembered.get(told)
        if remembered is None or max(len(remembered.sets), len(remembered.numbers)) > self._most:
            columns = [name for name in self._columns if name not in told]
            remembered = self._remembered[told] = _Remembered(columns)
        return remembered

    def _find(
        self, rows: pa.RecordBatch, first: Groups, pairs: Sequence[_Key], found: list[int], sets: dict[_Key, int]
    ) -> None:
        """Fills in the numbers of groups that are not known, by the values of their first rows."""
        missing = [group for group, number in enumerate(found) if number < 0]
        sample = rows.select(self._columns).take(pa.array(first[missing]))
        values = [_objects(column) for column in sample.columns]
        for group, each in zip(missing, zip(*values, strict=True) if values else [()] * len(missing), strict=True):
            worded = self._worded(dict(zip(self._read, each, strict=True)))
            texts = tuple(map(self._once.setdefault, worded, worded))
            found[group] = number = self._numbers.setdefault(texts, len(self.texts))
            if number == len(self.texts):
                self.texts.append(texts)
            if min(pairs[group]) >= 0:
                sets[pairs[group]] = number

    @staticmethod
    def _number_of(values: Values, numbers: dict[Values, int]) -> int:
        """The number of a set of values; -1 where one is too long to be remembered."""
        number = numbers.get(values)
        if number is None:
            if any(isinstance(value, str) and len(value) > LONGEST for value in values):
                return -1
            number = numbers[values] = len(numbers)
        return number

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


def _at(values: Sequence[object], places: Groups) -> list[object]:
    return [values[place] for place in places.tolist()]


def _objects(column: pa.Array) -> list[object]:
    values: list[object] = column.to_numpy(zero_copy_only=False).tolist()
    return values

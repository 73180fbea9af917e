"""Metrics of the user's own, counted over each batch of finished requests.

An expression runs once for each distinct set of values, in a batch, of the columns that it reads; the rest is done in
columns. A row for which an expression fails is left out of that metric and counted by the part that failed.
Not for: what may be configured (`user_metrics_settings.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mixer_py.errors import ExpressionError
from mixer_py.expressions import BOOL, STRING, Expression, compile_expression
from mixer_py.instruments import Counter, Family, Registry
from mixer_py.telemetry.grouping import (
    Alike,
    Groups,
    Numbers,
    Values,
    encoded,
    encoded_maps,
    grouped,
    numbered,
    observe,
)
from mixer_py.telemetry.label_sets import LONGEST
from mixer_py.telemetry.row_scope import COLUMN_OF, ROW_SCOPE
from mixer_py.telemetry.user_metrics_settings import UserMetricSettings

_ABSENT: Final = "absent"
_MOST_FAULTS: Final = 10_000

Rows = npt.NDArray[np.bool_]
"""For each row whether it is meant."""


class _Read(NamedTuple):
    """What an expression reads of a row: a column, or one member of a column of maps."""

    column: str
    member: str | None = None


class _Batch:
    """Rows, of which all that is read is encoded once, and each set of that is grouped once, for all metrics."""

    def __init__(self, rows: pa.RecordBatch, for_metrics: pa.RecordBatch | None) -> None:
        self.rows = rows
        self._for_metrics = for_metrics
        self._encoded: dict[_Read, pa.DictionaryArray] = {}
        self._grouped: dict[tuple[_Read, ...], tuple[Groups, list[Values]]] = {}

    def grouped(self, reads: tuple[_Read, ...]) -> tuple[Groups, list[Values]]:
        """For each row the number of its group, and for each group the values of what is read."""
        found = self._grouped.get(reads)
        if found is None:
            columns = [self._column(read) for read in reads]
            found = self._grouped[reads] = grouped(columns, self.rows.num_rows)
        return found

    def _column(self, read: _Read) -> pa.DictionaryArray:
        column = self._encoded.get(read)
        if column is None:
            values = self._values(read)
            if read.member is not None:
                values = pc.map_lookup(values, pa.scalar(read.member), "last")
            elif pa.types.is_timestamp(values.type):  # to an expression it is an int: nanoseconds
                values = values.cast(pa.int64())
            column = self._encoded[read] = encoded_maps(values) if pa.types.is_map(values.type) else encoded(values)
        return column

    def _values(self, read: _Read) -> pa.Array:
        """The column with all that is read of it by name; a map as a whole is what rows show of it."""
        more = self._for_metrics
        if more is not None and read.column in more.schema.names:
            values = more.column(read.column)
            if read.member is not None or not pa.types.is_map(values.type):
                return values
        return self.rows.column(read.column)


class _Outcome(NamedTuple):
    """What an expression gave: for each row the number of its group; for each group its value, or why it has none."""

    groups: Groups
    values: list[Any]
    faults: dict[int, str]


class _Part:
    """One expression of a metric, as the values of some columns give its value."""

    def __init__(self, expression: Expression, name: str, absent: object = None) -> None:
        """Prepares it.

        Args:
            expression: over a row.
            name: of the part, for the counter of what failed.
            absent: its value where a row lacks what it reads; None where that is a fault.
        """
        self.name = name
        self._evaluate = expression.evaluate
        self._absent = absent
        read = sorted({(reference.attribute, reference.key) for reference in expression.reads}, key=str)
        self._reads = tuple(dict.fromkeys(_Read(COLUMN_OF[attribute], key) for attribute, key in read))
        places: dict[str, int | _Members] = {}
        for attribute in dict.fromkeys(attribute for attribute, _ in read):
            column, kind = COLUMN_OF[attribute], ROW_SCOPE.types[attribute]
            of_column = {one.member: place for place, one in enumerate(self._reads) if one.column == column}
            places[attribute] = _Members(of_column) if kind.name == "map" else of_column[None]
        self._row = _Row(places)

    def over(self, batch: _Batch) -> _Outcome:
        """Runs the expression once a group."""
        groups, tuples = batch.grouped(self._reads)
        values: list[Any] = []
        faults: dict[int, str] = {}
        row, evaluate = self._row, self._evaluate
        for number, row.values in enumerate(tuples):
            try:
                values.append(evaluate(row))
            except ExpressionError as error:
                values.append(self._absent)
                if error.reason != _ABSENT or self._absent is None:
                    faults[number] = error.reason
        return _Outcome(groups, values, faults)


class _Members:
    """Where the members of a map stand among a group's values: each by itself, or the map as a whole."""

    def __init__(self, places: Mapping[str | None, int]) -> None:
        self._whole = places.get(None)
        self._places = [(member, place) for member, place in places.items() if member is not None]

    def of(self, values: Values) -> Mapping[str, str]:
        """The map, as far as it is read."""
        if self._whole is not None:
            return dict(values[self._whole])
        return {member: values[place] for member, place in self._places if values[place] is not None}


class _Row:
    """The values of a group as an expression reads them."""

    __slots__ = ("_places", "values")

    def __init__(self, places: Mapping[str, int | _Members]) -> None:
        self._places = places
        self.values: Values = ()

    def get(self, name: str, /) -> Any:  # noqa: ANN401 (as `expressions.Attributes`)
        """The value of a column; None where the row has none."""
        place = self._places[name]
        return place.of(self.values) if isinstance(place, _Members) else self.values[place]


class UserMetrics:
    """Counts rows of `requests` into the metrics of a configuration."""

    def __init__(self, registry: Registry, metrics: Iterable[UserMetricSettings]) -> None:
        """Declares the metrics.

        Args:
            registry: gets them, and `mixer_user_metric_errors_total{metric,part,reason}`.
            metrics: their definitions.
        """
        self._registry = registry
        self._errors = registry.counter(
            "mixer_user_metric_errors_total",
            "Requests that a metric of the user's left out, by the part of it that failed.",
            ("metric", "part", "reason"),
            max_label_sets=_MOST_FAULTS,
        )
        self.activate(metrics)

    def activate(self, metrics: Iterable[UserMetricSettings]) -> None:
        """Counts by other definitions from the next batch on; what was counted stays."""
        self._metrics = [_UserMetric(self._registry, settings, self._errors) for settings in metrics]

    def count_requests(
        self,
        rows: pa.RecordBatch,
        alike: Alike | None = None,  # noqa: ARG002 (as below)
        for_metrics: pa.RecordBatch | None = None,
    ) -> None:
        """Counts finished requests.

        Args:
            rows: with the columns of `requests`, as AccessLogDecoder gives them.
            alike: what the decoder knows of them; most metrics read few columns, and seldom these.
            for_metrics: what of them rows do not show.
        """
        if not self._metrics or not rows.num_rows:
            return
        batch = _Batch(rows, for_metrics)
        for metric in self._metrics:
            metric.count(batch)

    def count_connections(self, rows: pa.RecordBatch, opened: npt.NDArray[np.bool_]) -> None:
        """Counts nothing: these metrics are over requests."""


class _UserMetric:
    """One metric."""

    def __init__(self, registry: Registry, settings: UserMetricSettings, errors: Family[Counter]) -> None:
        self._name, self._errors, self._table = settings.name, errors, registry.table
        self._match = _unless("true", settings.match, _condition)
        self._labels = [_label(name, text) for name, text in settings.labels.items()]
        self._value = _unless("1", settings.value, _number)
        self._column = COLUMN_OF.get(settings.value.strip())
        names, most = tuple(settings.labels), settings.max_label_sets
        self._bounds = settings.bounds
        self._counters: Family[Counter] | None = None
        if settings.kind == "counter":
            self._counters = registry.counter(settings.name, settings.help, names, max_label_sets=most)
        else:
            self._histograms = registry.histogram(
                settings.name, settings.help, names, bounds=settings.bounds, max_label_sets=most
            )

    def count(self, batch: _Batch) -> None:
        """Counts the rows that match and have no fault."""
        kept: Rows = np.ones(batch.rows.num_rows, dtype=np.bool_)
        if self._match is not None:
            outcome = self._match.over(batch)
            self._count_faults(self._match.name, outcome, kept)
            kept = np.array(outcome.values, dtype=np.bool_)[outcome.groups]
        if not kept.any():
            return
        labels = [part.over(batch) for part in self._labels]
        for part, outcome in zip(self._labels, labels, strict=True):
            self._leave_out(part.name, outcome, kept)
        values = self._values(batch, kept)
        if kept.any():
            self._add(*_texts(labels, kept), values[kept])

    def _values(self, batch: _Batch, kept: Rows) -> Numbers:
        """The value of each row; rows without a good one are left out."""
        if self._value is None:
            return np.ones(len(kept))
        if self._column is not None:  # a column as it is needs no expression
            column = batch.rows.column(self._column)
            values: Numbers = column.to_numpy(zero_copy_only=False).astype(np.float64)
            self._leave_out_rows(np.asarray(column.is_null()), _ABSENT, kept)
        else:
            outcome = self._value.over(batch)
            self._leave_out(self._value.name, outcome, kept)
            values = np.array([0 if value is None else value for value in outcome.values], np.float64)[outcome.groups]
        self._leave_out_rows(~np.isfinite(values), "not_finite", kept)
        self._leave_out_rows(values < 0, "negative", kept)
        return values

    def _leave_out(self, part: str, outcome: _Outcome, kept: Rows) -> None:
        """Takes away the rows for which an expression failed, and counts those of them that were kept until now."""
        if outcome.faults:
            self._count_faults(part, outcome, kept)
            kept &= ~np.isin(outcome.groups, list(outcome.faults))

    def _leave_out_rows(self, faulty: Rows, reason: str, kept: Rows) -> None:
        faulty = faulty & kept
        if faulty.any():
            self._errors.labels(self._name, "value", reason).add(int(faulty.sum()))
            kept &= ~faulty

    def _count_faults(self, part: str, outcome: _Outcome, among: Rows) -> None:
        if outcome.faults:
            rows = np.bincount(outcome.groups[among], minlength=len(outcome.values))
            for group, reason in outcome.faults.items():
                if rows[group]:
                    self._errors.labels(self._name, part, reason).add(int(rows[group]))

    def _add(self, groups: Groups, sets: Sequence[tuple[str, ...]], values: Numbers) -> None:
        if self._counters is not None:
            amounts = np.bincount(groups, weights=values, minlength=len(sets)).tolist()
            for texts, amount in zip(sets, amounts, strict=True):
                self._counters.labels(*texts).add(amount)
        else:
            first = np.array([self._histograms.labels(*texts).first for texts in sets], np.int64)
            observe(self._table, first[groups], values, self._bounds)


def _texts(labels: Sequence[_Outcome], kept: Rows) -> tuple[Groups, list[tuple[str, ...]]]:
    """For each kept row the number of its label set, and the label sets."""
    parts: list[tuple[Groups, int]] = []
    spelt: list[list[str]] = []
    for outcome in labels:
        numbers: dict[str, int] = {}
        of_group = [numbers.setdefault((value or "")[:LONGEST], len(numbers)) for value in outcome.values]
        parts.append((np.array(of_group, dtype=np.int64)[outcome.groups[kept]], len(numbers)))
        spelt.append(list(numbers))
    first, groups = numbered(parts, int(kept.sum()))
    columns = [
        [texts[number] for number in part[first].tolist()] for (part, _), texts in zip(parts, spelt, strict=True)
    ]
    return groups, list(zip(*columns, strict=True)) if columns else [()] * len(first)


def _unless(plain: str, text: str, part: Callable[[str], _Part]) -> _Part | None:
    """The part, unless it is the plain text that needs no work."""
    return None if text.strip() == plain else part(text)


def _condition(text: str) -> _Part:
    return _Part(compile_expression(text, BOOL, scope=ROW_SCOPE), "match", absent=False)


def _label(name: str, text: str) -> _Part:
    expression = compile_expression(text, STRING, scope=ROW_SCOPE, as_text=True)
    return _Part(expression, f"labels.{name}", absent="")


def _number(text: str) -> _Part:
    return _Part(compile_expression(text, scope=ROW_SCOPE), "value")

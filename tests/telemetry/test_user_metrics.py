"""The user's own metrics: groups count what rows one by one would, each expression once for each distinct tuple."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.errors import ExpressionError
from mixer_py.expressions import BOOL, STRING, compile_expression
from mixer_py.instruments import Registry
from mixer_py.telemetry import user_metrics
from mixer_py.telemetry.columns import REQUESTS
from mixer_py.telemetry.row_scope import COLUMN_OF, ROW_SCOPE
from mixer_py.telemetry.user_metrics import UserMetrics
from mixer_py.telemetry.user_metrics_settings import UserMetricSettings

DEFAULTS = {column.name: column.kind.default for column in REQUESTS.columns}
ERRORS = "mixer_user_metric_errors_total"
Counted = dict[tuple[str, tuple[str, ...]], tuple[float, ...]]


def batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([DEFAULTS | row for row in rows], schema=REQUESTS.schema)


def counted(metrics: list[dict[str, Any]], *batches: list[dict[str, Any]]) -> Counted:
    registry = Registry()
    own = UserMetrics(registry, [UserMetricSettings.model_validate(metric) for metric in metrics])
    for rows in batches:
        own.count_requests(batch(rows))
    return {(series.name, tuple(value for _, value in series.labels)): numbers for series, numbers in registry.read()}


class Row:
    """A row as an expression reads it."""

    def __init__(self, row: dict[str, Any]) -> None:
        self._row = row

    def get(self, name: str, /) -> Any:
        value = self._row[COLUMN_OF[name]]
        return dict(value) if ROW_SCOPE.types[name].name == "map" else value


def one_by_one(metric: UserMetricSettings, rows: list[dict[str, Any]]) -> Counted:
    """What a metric counts of rows, said as plainly as can be."""
    match = compile_expression(metric.match, BOOL, scope=ROW_SCOPE)
    value = compile_expression(metric.value, scope=ROW_SCOPE)
    labels = {
        name: compile_expression(text, STRING, scope=ROW_SCOPE, as_text=True) for name, text in metric.labels.items()
    }
    width = 1 if metric.kind == "counter" else len(metric.bounds) + 2
    found: dict[tuple[str, tuple[str, ...]], list[float]] = defaultdict(lambda: [0.0] * width)
    faults: Counted = defaultdict(lambda: (0.0,))

    def fault(part: str, reason: str) -> None:
        key = (ERRORS, (metric.name, part, reason))
        faults[key] = (faults[key][0] + 1,)

    for row in (Row(DEFAULTS | row) for row in rows):
        part = "match"
        try:
            try:
                if not match.evaluate(row):
                    continue
            except ExpressionError as error:
                if error.reason == "absent":
                    continue
                raise
            texts = []
            for name, label in labels.items():
                part = f"labels.{name}"
                try:
                    texts.append(label.evaluate(row)[:256])
                except ExpressionError as error:
                    if error.reason != "absent":
                        raise
                    texts.append("")
            part = "value"
            number = float(value.evaluate(row))
        except ExpressionError as error:
            fault(part, error.reason)
            continue
        if not math.isfinite(number) or number < 0:
            fault("value", "negative" if math.isfinite(number) else "not_finite")
            continue
        cells = found[metric.name, tuple(texts)]
        if metric.kind == "counter":
            cells[0] += number
        else:
            cells[bisect_left(metric.bounds, number)] += 1
            cells[-1] += number
    return {key: tuple(cells) for key, cells in found.items()} | faults


tags = st.dictionaries(st.sampled_from(["tenant", "tier", ""]), st.sampled_from(["", "a", "7"])).map(
    lambda found: sorted(found.items())
)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "request_method": st.sampled_from(["GET", "POST", ""]),
            "request_host": st.sampled_from(["", "a", "b", "7", "é" * 300, "é" * 301]),
            "request_size": st.sampled_from([0, 1, 5, 10, 2**40, 2**64 - 1]),
            "response_code": st.sampled_from([0, 200, 503]),
            "limit_remaining": st.sampled_from([None, 0, 1, 7]),
            "response_duration": st.integers(0, 10**7),
            "connection_mtls": st.booleans(),
            "timestamp": st.sampled_from([0, 1_795_860_000_000_000_001]),
            "custom_tags": tags,
            "request_headers": tags,
        }
    ),
    max_size=25,
)
LABELS = [
    "request.method", "request_host", "response.code", "connection.mtls", "limit_remaining", '"fixed"',
    "timestamp > timestamp('2020-01-01T00:00:00Z')", "int(request.host)", "100 / response.code",
    'custom_tags["tenant"]', 'custom_tags[""] + custom_tags.tier', "string(size(custom_tags))",
    '"tenant" in custom_tags ? custom_tags.tenant : request.headers["tenant"]',
    'custom_tags.exists(name, name == "tier" && custom_tags[name] == "7")', "custom_tags[request.host]",
    'request.method + "/" + request.host', "string(timestamp)", "context.proxy_error_code",
]  # fmt: skip
VALUES = [
    "1", "2", "0.5", "request.size", "limit_remaining", "double(response.duration) / 1000.0", "int(request.host)",
    "limit_remaining - 1", 'int(request_headers["tier"])', "1.0 / double(response.code)",
    "request_size + response.duration", "response.code / 7",
]  # fmt: skip
MATCHES = [
    "true", "false", 'request.method == "POST"', "limit_remaining > 0", "int(request.host) == 7",
    "response.code >= 500", '"tenant" in custom_tags', 'request.headers.tier == custom_tags["tenant"]',
    "100 / response.code == 0 || connection.mtls",
]  # fmt: skip
metrics = st.builds(
    lambda kind, labels, **given: UserMetricSettings.model_validate(
        given
        | {"kind": kind, "name": "mine_total" if kind == "counter" else "mine", "max_label_sets": 10_000}
        | {"labels": {f"label{number}": text for number, text in enumerate(labels)}}
        | ({"buckets": [0, 1, 5, 10]} if kind == "histogram" else {})
    ),
    st.sampled_from(["counter", "histogram"]),
    st.lists(st.sampled_from(LABELS), max_size=3),
    match=st.sampled_from(MATCHES),
    value=st.sampled_from(VALUES),
)


@given(metrics, st.lists(rows, max_size=3))
@settings(deadline=None)
def test_groups_count_as_rows_do(metric: UserMetricSettings, batches: list[list[dict[str, Any]]]) -> None:
    found = counted([metric.model_dump()], *batches)
    wanted = one_by_one(metric, [row for rows in batches for row in rows])
    assert set(found) == set(wanted)
    for key, numbers in wanted.items():
        assert found[key] == pytest.approx(numbers, rel=1e-12)


def test_an_expression_runs_once_for_each_distinct_tuple_that_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, object]] = []

    class Counting(user_metrics._Row):
        def get(self, name: str, /) -> Any:
            value = super().get(name)
            calls.append((name, value))
            return value

    monkeypatch.setattr(user_metrics, "_Row", Counting)
    metric = {
        "name": "mine_total", "kind": "counter", "match": "response.code < 500", "value": "request.size * 2",
        "labels": {"host": "request.host.upperAscii()"},
    }  # fmt: skip
    rows = [
        {"request_host": host, "response_code": 200, "request_size": size, "response_duration": number}
        for number, (host, size) in enumerate([("a", 1), ("b", 1), ("a", 2)] * 100)
    ]
    found = counted([metric], rows)
    assert found["mine_total", ("A",)] == (600,)
    assert found["mine_total", ("B",)] == (200,)
    assert sorted(calls, key=str) == [
        ("request.host", "a"), ("request.host", "b"), ("request.size", 1), ("request.size", 2), ("response.code", 200),
    ]  # fmt: skip


def test_a_member_of_a_map_is_read_and_not_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that tags which differ for each request do not make each request a group of its own."""
    evaluated: list[object] = []

    class Counting(user_metrics._Row):
        def get(self, name: str, /) -> Any:
            value = super().get(name)
            evaluated.append(value)
            return value

    monkeypatch.setattr(user_metrics, "_Row", Counting)
    metric = {"name": "mine_total", "kind": "counter", "labels": {"tenant": 'custom_tags["tenant"]'}}
    rows = [{"custom_tags": [("tenant", "ab"[number % 2]), ("id", str(number))]} for number in range(100)]
    found = counted([metric], rows)
    assert (found["mine_total", ("a",)], found["mine_total", ("b",)]) == ((50,), (50,))
    assert evaluated == [{"tenant": "a"}, {"tenant": "b"}]


def test_above_its_bound_a_metric_counts_in_one_series() -> None:
    metric = {
        "name": "mine_total", "kind": "counter", "labels": {"host": "request.host"}, "max_label_sets": 2,
    }  # fmt: skip
    found = counted([metric], [{"request_host": f"host{number}"} for number in range(100)])
    assert found == {
        ("mine_total", ("host0",)): (1,), ("mine_total", ("host1",)): (1,), ("mine_total", ("other",)): (98,),
        ("mixer_series_overflow_total", ("mine_total",)): (98,),
    }  # fmt: skip


def test_a_fault_costs_its_own_row_of_its_own_metric() -> None:
    broken = {"name": "sizes_total", "kind": "counter", "value": "int(request.host)"}
    whole = {"name": "all_total", "kind": "counter"}
    found = counted([broken, whole], [{"request_host": host} for host in ("3", "x", "4", "-1")])
    assert found == {
        ("sizes_total", ()): (7,), ("all_total", ()): (4,),
        (ERRORS, ("sizes_total", "value", "conversion")): (1,),
        (ERRORS, ("sizes_total", "value", "negative")): (1,),
    }  # fmt: skip


def test_a_value_of_a_megabyte_is_cut() -> None:
    metric = {"name": "mine_total", "kind": "counter", "labels": {"host": "request.host"}}
    ((_, (label,)),) = counted([metric], [{"request_host": "x" * 2**20}])
    assert label == "x" * 256


def test_without_metrics_nothing_is_done() -> None:
    assert counted([], [{}]) == {}


def test_another_bound_holds_from_the_next_batch_on() -> None:
    registry = Registry()
    metric = UserMetricSettings(
        name="mine_total", kind="counter", labels={"host": "request.host"}, max_label_sets=1
    )  # fmt: skip
    own = UserMetrics(registry, [metric])
    own.count_requests(batch([{"request_host": "a"}, {"request_host": "b"}]))
    own.activate([metric.model_copy(update={"max_label_sets": 10})])
    own.count_requests(batch([{"request_host": "a"}, {"request_host": "b"}]))
    values = {series.labels: numbers for series, numbers in registry.read() if series.name == "mine_total"}
    assert values == {(("host", "a"),): (2,), (("host", "other"),): (1,), (("host", "b"),): (1,)}

"""Nothing enters a database that is not exactly a table's rows."""

import pyarrow as pa
import pytest

from mixer_py.errors import SinkError
from mixer_py.telemetry.columns import CONNECTIONS, REQUESTS
from mixer_py.telemetry.decision_columns import DECISIONS
from mixer_py.telemetry.validation import EARLIEST, check


def batch(table=REQUESTS, **values):
    row = {column.name: column.kind.default for column in table.columns} | values
    return pa.RecordBatch.from_pylist([row], schema=table.schema)


def replaced(name, array, table=REQUESTS):
    rows = batch(table)
    return rows.set_column(rows.schema.get_field_index(name), name, array)


@pytest.mark.parametrize("table", [REQUESTS, CONNECTIONS, DECISIONS], ids=lambda table: table.name)
def test_right_rows_pass(table):
    check(table.name, batch(table))
    check(table.name, batch(table).slice(0, 0))


def test_an_unknown_table_is_refused():
    with pytest.raises(SinkError, match="no table request; tables are requests, connections, decisions"):
        check("request", batch())


def test_missing_extra_and_shuffled_columns_are_refused():
    rows = batch()
    with pytest.raises(SinkError, match=r"missing \['verdict'\]"):
        check("requests", rows.drop_columns(["verdict"]))
    with pytest.raises(SinkError, match=r"not in the table \['more'\]"):
        check("requests", rows.append_column("more", pa.array(["x"])))
    with pytest.raises(SinkError, match="another order"):
        check("requests", rows.select(list(reversed(rows.schema.names))))


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("limit_remaining", pa.array([2**40])),
        ("limit_remaining", pa.array([-1])),
        ("response_code", pa.array([200], pa.int32())),
        ("response_code", pa.array(["200"])),
        ("request_size", pa.array([1.0])),
        ("verdict", pa.array([b"allow"])),
        ("verdict", pa.array(["allow"]).dictionary_encode()),
        ("timestamp", pa.array([0], pa.timestamp("us", tz="UTC"))),
        ("timestamp", pa.array([0], pa.timestamp("ns"))),
    ],
)
def test_another_type_is_refused_by_name(name, array):
    with pytest.raises(SinkError, match=rf"requests\.{name}: type is "):
        check("requests", replaced(name, array))


def test_null_is_refused_where_a_value_must_be():
    with pytest.raises(SinkError, match=r"requests\.verdict: 1 rows have no value"):
        check("requests", replaced("verdict", pa.array([None], pa.string())))
    check("requests", replaced("limit_remaining", pa.array([None], pa.uint32())))


def test_text_that_is_no_utf8_is_refused():
    broken = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    with pytest.raises(SinkError, match=r"requests\.verdict: .*UTF8"):
        check("requests", replaced("verdict", broken))


def test_times_that_clickhouse_cannot_hold_are_refused():
    kind = pa.timestamp("ns", tz="UTC")
    with pytest.raises(SinkError, match=r"requests\.timestamp: .*before 1900"):
        check("requests", replaced("timestamp", pa.array([EARLIEST - 1]).cast(kind)))
    check("requests", replaced("timestamp", pa.array([EARLIEST]).cast(kind)))
    check("requests", replaced("timestamp", pa.array([2**63 - 1]).cast(kind)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_duration_is_finite(value):
    with pytest.raises(SinkError, match=r"decisions\.duration_us: a value is not finite"):
        check("decisions", batch(DECISIONS, duration_us=value))


def test_text_inside_a_map_is_checked_too():
    good = pa.array([[("a", "b")]], pa.map_(pa.string(), pa.string()))
    check("requests", replaced("custom_tags", good))
    broken = pa.StringArray.from_buffers(1, good.items.buffers()[1], pa.py_buffer(b"\xff"))
    bad = pa.MapArray.from_arrays(good.offsets, good.keys, broken)
    with pytest.raises(SinkError, match=r"requests\.custom_tags"):
        check("requests", replaced("custom_tags", bad))

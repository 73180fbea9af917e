"""What an INSERT need not name: columns in which nothing is, of every type, also in a part of a larger batch."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer_py.telemetry.column import Kind
from mixer_py.telemetry.columns import CONNECTIONS, REQUESTS, TABLES
from mixer_py.telemetry.decision_columns import DECISIONS
from mixer_py.telemetry.empty_columns import without_empty

KINDS = {column.kind.clickhouse: column.kind for table in TABLES.values() for column in table.columns}


def batch_of(table: str, name: str, values: list[Any], kind: Kind) -> pa.RecordBatch:
    """Rows in which only one column may hold something."""
    arrays = [
        pa.array(values if column.name == name else [column.kind.default] * len(values), column.kind.arrow)
        for column in TABLES[table].columns
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=TABLES[table].schema)


def values_of(kind: Kind) -> st.SearchStrategy[Any]:
    default = st.just(kind.default)
    some: dict[str, st.SearchStrategy[Any]] = {
        "string": st.text(max_size=3),
        "bool": st.booleans(),
        "double": st.floats(allow_nan=False, allow_infinity=False),
        "timestamp[ns, tz=UTC]": st.integers(-(10**18), 10**18),
        "map<string, string>": st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2).map(
            lambda members: list(members.items())
        ),
    }
    whole = st.integers(0, 2 ** (8 * kind.arrow.byte_width) - 1) if str(kind.arrow) not in some else st.nothing()
    return default | some.get(str(kind.arrow), whole)


def place_of(kind: Kind) -> tuple[str, str]:
    """The last column of a type; never the first of its table, which a block of nothing keeps."""
    return [
        (table.name, column.name)
        for table in (REQUESTS, CONNECTIONS, DECISIONS)
        for column in table.columns
        if column.kind.clickhouse == kind.clickhouse
    ][-1] if kind.clickhouse != "DateTime64(9, 'UTC')" else ("requests", "response_time")  # fmt: skip


def is_default(kind: Kind, value: Any) -> bool:
    if isinstance(value, float):
        return struct.pack("<d", value) == struct.pack("<d", 0.0)
    return bool(value == kind.default or (kind.is_map and not value))


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
@given(data=st.data())
def test_a_column_is_named_exactly_where_a_row_holds_something(kind: Kind, data: st.DataObject):
    values = data.draw(st.lists(values_of(kind), min_size=1, max_size=5))
    first = data.draw(st.integers(0, len(values) - 1))
    table, name = place_of(kind)
    part = batch_of(table, name, values, kind).slice(first)
    named = without_empty(table, part)
    assert (name in named.schema.names) is not all(is_default(kind, value) for value in values[first:])
    assert set(named.schema.names) <= {"timestamp", name}
    assert len(named) == len(values) - first
    for column in named.schema.names:
        assert named.column(column).equals(part.column(column))


def test_a_block_of_nothing_keeps_its_rows():
    nothing = batch_of("requests", "", [None] * 3, KINDS["String"])
    named = without_empty("requests", nothing)
    assert (named.schema.names, len(named)) == (["timestamp"], 3)
    assert nothing.column("timestamp")[0].as_py() == datetime(1970, 1, 1, tzinfo=UTC)

"""Refuses a batch that is not exactly what a table holds, before any database sees it.

Neither chDB nor clickhouse-driver does: a number that is too large becomes another one, a missing column its
default, an extra one nothing (reference/parts.md 4, 5).
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from mixer_py.errors import SinkError
from mixer_py.telemetry.column import Column
from mixer_py.telemetry.columns import TABLES
from mixer_py.telemetry.texts import has_no_bytes

EARLIEST: Final = -2_208_988_800_000_000_000
"""1900-01-01 in nanoseconds since the epoch, the first instant that DateTime64(9) holds."""


def check(table: str, batch: pa.RecordBatch) -> None:
    """Passes a batch whose columns have the names, the order, the types and the range of the table's.

    Args:
        table: one of `columns.TABLES`.
        batch: rows to insert.

    Raises:
        SinkError: it names the first column that is wrong.
    """
    expected = TABLES.get(table)
    if expected is None:
        raise SinkError(f"there is no table {table}; tables are {', '.join(TABLES)}")
    if tuple(batch.schema.names) != expected.names:
        missing = [name for name in expected.names if name not in batch.schema.names]
        extra = [name for name in batch.schema.names if name not in expected.names]
        raise SinkError(f"{table}: columns differ: missing {missing}, not in the table {extra}, or in another order")
    for column, values in zip(expected.columns, batch.columns, strict=True):
        _check_column(table, column, values)


def _check_column(table: str, column: Column, values: pa.Array) -> None:
    if values.type != column.kind.arrow:
        raise SinkError(f"{table}.{column.name}: type is {values.type}, not {column.kind.arrow}")
    if values.null_count and not column.kind.nullable:
        raise SinkError(f"{table}.{column.name}: {values.null_count} rows have no value")
    try:
        values.validate()
        if column.kind.is_text and not has_no_bytes(values):
            values.validate(full=True)  # text that is no UTF-8, offsets that lead nowhere
    except pa.ArrowInvalid as error:
        raise SinkError(f"{table}.{column.name}: {error}") from error
    if pa.types.is_timestamp(values.type) and len(values):
        first = int(values.view(pa.int64()).to_numpy().min())
        if first < EARLIEST:
            raise SinkError(f"{table}.{column.name}: {first} ns is before 1900, the first instant ClickHouse can hold")
    if pa.types.is_floating(values.type) and not pc.all(pc.is_finite(values), min_count=0).as_py():
        raise SinkError(f"{table}.{column.name}: a value is not finite")

"""Leaves out of a block the columns that hold nothing in any of its rows: ClickHouse fills them in, for less.

A third of a request's columns is empty in most blocks: no token, no gRPC, no quota, no dry run. A column that an INSERT
does not name gets its type's own default, as no DDL here gives another; `Kind.default` is the same.
Not for: which columns there are, or whether a block may be stored (`validation.py`, which comes first).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from mixer_py.telemetry.column import Kind
from mixer_py.telemetry.columns import TABLES
from mixer_py.telemetry.texts import is_blank


def without_empty(table: str, batch: pa.RecordBatch) -> pa.RecordBatch:
    """The columns of a block that an INSERT has to name; of a block of nothing the first, so that its rows count.

    Args:
        table: one of `columns.TABLES`.
        batch: rows with exactly its columns, validated.
    """
    columns = zip(TABLES[table].columns, batch.columns, strict=True)
    filled = [column.name for column, values in columns if not _is_empty(column.kind, values)]
    return batch.select(filled or batch.schema.names[:1])


def _is_empty(kind: Kind, values: pa.Array) -> bool:
    """Whether each value is the default: read off the memory that holds them, without a look at each."""
    if kind.nullable:
        return bool(values.null_count == len(values))
    if kind.default not in ("", (), 0):
        return False
    if pa.types.is_boolean(values.type):
        return bool(values.true_count == 0)
    memory = values.buffers()[1]
    if memory is None:
        return True
    if kind.is_text:
        return is_blank(values)
    width = values.type.byte_width  # by their bits, as -0.0 is not 0.0
    return not np.frombuffer(memory, np.uint8, len(values) * width, values.offset * width).any()

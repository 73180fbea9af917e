"""The names that an expression over rows of `requests` may use: the columns', and those of the attributes behind them.

Not for: values, which whoever has the rows hands over.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import pyarrow as pa

from mixer_py.attributes import ATTRIBUTES
from mixer_py.expressions import BOOL, DOUBLE, INT, STRING, TIMESTAMP, Scope, Type
from mixer_py.expressions.types import map_of
from mixer_py.telemetry.attribute_columns import SAME
from mixer_py.telemetry.column import Column
from mixer_py.telemetry.columns import REQUESTS


def _type(column: Column) -> Type:
    if column.kind.is_map:
        return map_of(STRING, STRING)
    arrow = column.kind.arrow
    if pa.types.is_boolean(arrow):
        return BOOL
    if pa.types.is_integer(arrow):
        return INT
    if pa.types.is_floating(arrow):
        return DOUBLE
    return TIMESTAMP if pa.types.is_timestamp(arrow) else STRING


_COLUMNS: Final = {column.name: column for column in REQUESTS.columns}
_ATTRIBUTES: Final = {attribute.name: attribute.name.replace(".", "_") for attribute in ATTRIBUTES} | dict(SAME)
COLUMN_OF: Final[Mapping[str, str]] = MappingProxyType(
    {name: name for name in _COLUMNS}
    | {name: column for name, column in _ATTRIBUTES.items() if column in _COLUMNS and "." in name}
)
"""The column of each name that an expression may use: the column's own, and the attribute's."""
ROW_SCOPE: Final = Scope(
    MappingProxyType({name: _type(_COLUMNS[column]) for name, column in COLUMN_OF.items()}),
    MappingProxyType({
        name: "rows of requests have no column of it, see docs/columns.md"
        for name in _ATTRIBUTES
        if name not in COLUMN_OF
    }),
)  # fmt: skip
"""What such an expression is checked against. A duration is an int of microseconds, as its column is."""

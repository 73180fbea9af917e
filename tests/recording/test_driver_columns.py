"""Every column of every table goes through the driver's own writer and reader unchanged.

Debian's server is too old for some of the types, so the wire form is what can be shown of them.
"""

from __future__ import annotations

import socket

import numpy as np
import pyarrow as pa
import pytest
from clickhouse_driver.bufferedreader import BufferedSocketReader
from clickhouse_driver.bufferedwriter import BufferedSocketWriter
from clickhouse_driver.columns.service import read_column, write_column
from clickhouse_driver.context import Context

from mixer_py.telemetry.columns import TABLES
from mixer_py.telemetry.sinks.clickhouse import _numpy

COLUMNS = {f"{table.name}.{column.name}": column for table in TABLES.values() for column in table.columns}


class ServerInfo:
    revision = 54460

    @staticmethod
    def get_timezone() -> str:
        return "UTC"


def context() -> Context:
    made = Context()
    made.client_settings = {
        "use_numpy": True, "strings_as_bytes": False, "strings_encoding": "utf-8",
        "input_format_null_as_default": False,
    }  # fmt: skip
    made.server_info = ServerInfo()
    return made


def some_values(kind: pa.DataType) -> list[object]:
    if pa.types.is_map(kind):
        return [[("a", "b"), ("ä", "")], [], [("a", "c")]]
    if pa.types.is_string(kind):
        return ["", "text", "ä"]
    if pa.types.is_boolean(kind):
        return [False, True, False]
    if pa.types.is_timestamp(kind):
        return [0, 1_700_000_000_123_456_789, 1]
    return [0, 1, 2]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_comes_back_as_it_was_sent(name):
    kind = COLUMNS[name].kind
    values = some_values(kind.arrow)
    if kind.nullable:
        values = [None, *values[1:]]
    sent = _numpy(pa.array(values, kind.arrow))
    assert isinstance(sent, np.ndarray)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer = BufferedSocketWriter(ours, 65536)
        write_column(context(), "x", kind.clickhouse, sent, writer)
        writer.flush()
        came = read_column(context(), kind.clickhouse, len(values), BufferedSocketReader(theirs, 65536))
    if pa.types.is_timestamp(kind.arrow):
        came = came.astype("datetime64[ns]").astype(np.int64)
    wanted = [dict(pairs) for pairs in values] if pa.types.is_map(kind.arrow) else values
    assert list(came) == wanted

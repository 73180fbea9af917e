"""Write blocks to a ClickHouse server over its native protocol, as columns of numpy.

The driver blocks, so it lives in one thread; the event loop only waits. Names, types and ranges were validated
before (`validation.py`): neither the driver nor the server would refuse a value that does not fit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import structlog
from clickhouse_driver import Client
from clickhouse_driver.errors import Error as DriverError
from clickhouse_driver.errors import ServerException

from mixer_py.errors import MigrationError, SinkError
from mixer_py.telemetry.empty_columns import without_empty
from mixer_py.telemetry.layout import Layout
from mixer_py.telemetry.migrations import migrate
from mixer_py.telemetry.settings import ServerTarget

CONNECT_SECONDS = 2
SEND_RECEIVE_SECONDS = 30
_HANG_UP_SECONDS = 1
"""How long `close` waits for an insert on its way, before it takes the connection from under it."""
_DEDUPLICATE_SUMS = {"deduplicate_blocks_in_dependent_materialized_views": 1}
"""A block that is sent again is summed up once, too."""
_DEDUPLICATION = (22, 2)
"""First version whose MergeTree takes insert_deduplication_token."""


class ClickHouseSink:
    """A connection to a server, made when it is first needed and again when it was lost."""

    def __init__(
        self, target: ServerTarget, password: str, layout: Layout, statements: Sequence[str] | None = None
    ) -> None:
        """Prepares a sink.

        Args:
            target: the server.
            password: empty for none.
            layout: where the tables stand.
            statements: what makes the tables; the product's own, and their migrations, when None.
        """
        self._target = target
        self._password = password
        self._layout = layout
        self._statements = None if statements is None else tuple(statements)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="clickhouse")
        self._client: Client | None = None
        self._deduplicates = False
        # The driver would say with every block that maps are written without numpy.
        logging.getLogger("clickhouse_driver.columns.service").setLevel(logging.ERROR)
        self._log = structlog.get_logger("telemetry").bind(server=f"{target.host}:{target.port}")

    async def write(self, table: str, batch: pa.RecordBatch, token: str) -> None:
        """See `Sink.write`. A server too old to know tokens may store a block twice after an answer that was lost."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._insert, table, batch, token)

    async def close(self) -> None:
        """Disconnects, also from a server that hangs."""
        disconnecting = asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        await asyncio.wait({disconnecting}, timeout=_HANG_UP_SECONDS)
        while not disconnecting.done():  # each step of a connection being made opens a way to hang
            self._hang_up()
            await asyncio.wait({disconnecting}, timeout=_HANG_UP_SECONDS)
        self._thread.shutdown()

    def _insert(self, table: str, batch: pa.RecordBatch, token: str) -> None:
        try:
            client = self._connected()
            settings = {"insert_deduplication_token": token, **_DEDUPLICATE_SUMS} if self._deduplicates else {}
            filled = without_empty(table, batch)
            names = ", ".join(f"`{name}`" for name in filled.schema.names)
            client.execute(
                f"INSERT INTO {self._layout.stored(table)} ({names}) VALUES",
                [_numpy(column) for column in filled.columns],
                columnar=True,
                settings=settings,
            )
        except MigrationError as error:
            self._disconnect()
            raise SinkError(f"ClickHouse at {self._target.host}:{self._target.port}: {error}", "schema") from error
        except (DriverError, OSError, EOFError) as error:
            self._disconnect()
            reason = "insert_failed" if isinstance(error, ServerException) else "away"
            raise SinkError(f"ClickHouse at {self._target.host}:{self._target.port}: {error}", reason) from error
        except BaseException:  # half a block may be on the wire
            self._disconnect()
            raise

    def _connected(self) -> Client:
        if self._client is None:
            target = self._target
            client = Client(
                target.host, target.port, user=target.user, password=self._password, secure=target.secure,
                connect_timeout=CONNECT_SECONDS, send_receive_timeout=SEND_RECEIVE_SECONDS,
                settings={"use_numpy": True}, disable_reconnect=True,  # else it waits anew, behind `close`
            )  # fmt: skip
            self._client = client
            if self._statements is None:
                for change in migrate(self._layout, partial(_rows, client), client.execute):
                    self._log.info("a table was changed", statement=change)
            for statement in self._statements or ():
                client.execute(statement)
            info = client.connection.server_info
            self._deduplicates = (info.version_major, info.version_minor) >= _DEDUPLICATION
            if not self._deduplicates:
                self._log.warning(
                    "the server is too old to know tokens: rows may be stored twice when its answer is lost",
                    way_out="ClickHouse 22.2 or newer knows them",
                    version=f"{info.version_major}.{info.version_minor}",
                )
        return self._client

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.disconnect()
            self._client = None

    def _hang_up(self) -> None:
        """Ends what the thread waits for. The only thing that another thread does with the connection."""
        line = self._client.connection.socket if self._client is not None else None
        if line is not None:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)


def _rows(client: Client, sql: str) -> list[dict[str, Any]]:
    """The rows of a SELECT, by name."""
    rows, columns = client.execute(sql, with_column_types=True)
    return [dict(zip((name for name, _ in columns), row, strict=True)) for row in rows]


def _numpy(column: pa.Array) -> np.ndarray[Any, Any]:
    """A column as the driver takes it: numbers and instants without a copy a row, text as objects."""
    if pa.types.is_timestamp(column.type):
        return np.asarray(column.cast(pa.int64()).to_numpy(zero_copy_only=False)).view("datetime64[ns]")
    if pa.types.is_boolean(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False)).astype("uint8")
    if pa.types.is_map(column.type):
        return np.array([dict(pairs) for pairs in column.to_pylist()], dtype=object)
    if column.null_count or pa.types.is_string(column.type):
        return np.array(column.to_pylist(), dtype=object)
    return np.asarray(column.to_numpy(zero_copy_only=False))

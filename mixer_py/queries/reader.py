"""Run a checked query against whatever keeps the rows, within limits, and answer JSON lines (JSONEachRow)."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Protocol
from uuid import UUID

import orjson

from mixer_py.errors import NotRunningError, QueryFailedError
from mixer_py.queries.sql import check_query
from mixer_py.telemetry.settings import ClickHouseSettings, EmbeddedTarget, ServerTarget
from mixer_py.telemetry.store.client import StoreClient
from mixer_py.telemetry.store.protocol import QueryLimits

LIMITS = QueryLimits()
"""What one query of a person may take."""


class Reader(Protocol):
    """Answers queries."""

    async def query(self, sql: str) -> bytes:
        """Runs one SELECT.

        Returns:
            One JSON object a line.

        Raises:
            QueryRefusedError: it is none, or reaches outside of the database.
            QueryFailedError: the database refused it, or it went over a limit.
            NotRunningError: the database does not answer.
        """


@dataclass(frozen=True, slots=True)
class StoreReader:
    """Asks the store process."""

    client: StoreClient
    database: str
    limits: QueryLimits = LIMITS

    async def query(self, sql: str) -> bytes:
        """See `Reader.query`."""
        return await self.client.query(check_query(sql, self.database), self.limits)


@dataclass(frozen=True, slots=True)
class ServerReader:
    """Asks a ClickHouse server, over a connection for each query."""

    target: ServerTarget
    password: str
    limits: QueryLimits = LIMITS

    async def query(self, sql: str) -> bytes:
        """See `Reader.query`."""
        return await asyncio.to_thread(self._query, check_query(sql, self.target.database))

    def _query(self, sql: str) -> bytes:
        # Imported here, because few processes ask a server and every supervisor imports this module.
        from clickhouse_driver import Client  # noqa: PLC0415
        from clickhouse_driver.errors import Error as DriverError  # noqa: PLC0415
        from clickhouse_driver.errors import ServerException  # noqa: PLC0415

        # What it writes of a lost connection, with a stack trace, is in the exception too.
        logging.getLogger("clickhouse_driver.connection").setLevel(logging.CRITICAL)
        target = self.target
        client = Client(
            target.host, target.port, user=target.user, password=self.password, database=target.database,
            secure=target.secure, connect_timeout=2, send_receive_timeout=int(self.limits.seconds) + 10,
        )  # fmt: skip
        settings = {
            "readonly": 2,
            "max_execution_time": int(self.limits.seconds),
            "max_result_rows": self.limits.rows,
            "max_result_bytes": self.limits.result_bytes,
            "max_memory_usage": self.limits.memory,
        }
        try:
            rows, columns = client.execute(sql, with_column_types=True, settings=settings)
        except ServerException as error:
            raise QueryFailedError(_tidy(str(error.message))) from error
        except (DriverError, OSError, EOFError) as error:
            raise NotRunningError(f"ClickHouse at {target.host}:{target.port} does not answer: {error}") from error
        finally:
            client.disconnect()
        names = [name for name, _ in columns]
        return b"".join(
            orjson.dumps(dict(zip(names, row, strict=True)), default=_plain, option=orjson.OPT_APPEND_NEWLINE | _DATES)
            for row in rows
        )


_DATES = orjson.OPT_PASSTHROUGH_DATETIME


def _plain(value: object) -> object:
    """Types of ClickHouse that JSON lacks, as JSONEachRow writes them."""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ").partition("+")[0]
    if isinstance(value, (date, UUID, IPv4Address, IPv6Address, Decimal)):
        return str(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _tidy(message: str) -> str:
    """The server's message without its stack trace."""
    return message.partition("Stack trace:")[0].removeprefix("DB::Exception: ").strip()


def open_reader(settings: ClickHouseSettings, store_socket: Path | None) -> Reader:
    """The reader of the configured ClickHouse.

    Raises:
        NotRunningError: it is embedded, and its store process has no socket here.
    """
    target = settings.target
    if isinstance(target, EmbeddedTarget):
        if store_socket is None:
            raise NotRunningError(f"the rows in {target.directory} are read through the running mixer")
        return StoreReader(StoreClient(store_socket), target.database)
    return ServerReader(target, settings.password.reveal() if settings.password else "")

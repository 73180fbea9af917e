"""The way to the store process: rows in, rows of queries out.

Not for: trying again; whoever holds the rows does that, with the same token.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from mixer_py.errors import InvalidRequestError, NotRunningError, QueryFailedError, SinkError
from mixer_py.telemetry.store.protocol import Frame, QueryLimits, read_frame, write_frame

if TYPE_CHECKING:
    import pyarrow as pa  # who only queries needs no Arrow

_MARGIN_SECONDS = 10.0
"""What a query may take above its own limit: waiting for a free reader, and the way back."""


class StoreClient:
    """A store process as its clients see it. Safe for concurrent calls on one event loop."""

    def __init__(self, path: Path, *, connect_timeout: float = 5.0, write_timeout: float = 60.0) -> None:
        """Prepares; the first call connects.

        Args:
            path: the store's unix socket.
            connect_timeout: seconds to wait for a connection.
            write_timeout: seconds to wait until a batch is acknowledged.
        """
        self._path = path
        self._connect_timeout = connect_timeout
        self._write_timeout = write_timeout
        self._writing = asyncio.Lock()
        self._line: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def write(self, table: str, batch: pa.RecordBatch, token: str) -> None:
        """Writes rows; when this returns, they are stored and verified.

        Batches go one after another over one connection.

        Args:
            table: `requests` or `decisions`.
            batch: exactly the table's columns, at most `protocol.MAX_BODY` bytes as an Arrow stream.
            token: names this batch; a batch sent again with the token that it had is stored once.

        Raises:
            SinkError: they were not acknowledged, and `reason` says why; unless it is `invalid`, send them again with
                the same token.
        """
        from mixer_py.telemetry.store.batches import encode_batch  # noqa: PLC0415 (see above)

        request = Frame({"request": "write", "table": table, "token": token}, encode_batch(batch))
        async with self._writing:
            try:
                async with asyncio.timeout(self._write_timeout):
                    answer = await self._ask_on_line(request)
            except TimeoutError as error:
                raise SinkError(f"the store did not acknowledge a batch within {self._write_timeout:g} s",
                                "timeout") from error  # fmt: skip
            except InvalidRequestError as error:
                raise SinkError(str(error)) from error
            except (OSError, NotRunningError) as error:
                raise SinkError(f"the store at {self._path} is away: {error}", "away") from error
        if not answer.header.get("ok"):
            raise SinkError(str(answer.header.get("message")), str(answer.header.get("kind")))

    async def query(self, sql: str, limits: QueryLimits) -> bytes:
        """Runs one SELECT that `queries` has passed; each on a connection of its own.

        Returns:
            One JSON object a line (ClickHouse's JSONEachRow).

        Raises:
            QueryFailedError: the database refused it, or a limit ended it.
            NotRunningError: no store answers.
        """
        request = Frame({"request": "query", "sql": sql, "limits": limits.to_header()})
        try:
            async with asyncio.timeout(limits.seconds + _MARGIN_SECONDS):
                line = await self._connect()
                try:
                    answer = await _ask(line, request)
                finally:
                    line[1].close()
        except TimeoutError as error:
            raise NotRunningError(f"the store at {self._path} does not answer") from error
        except InvalidRequestError as error:
            raise QueryFailedError(str(error)) from error
        except OSError as error:
            raise NotRunningError(f"the store at {self._path} is away: {error}") from error
        if not answer.header.get("ok"):
            raise QueryFailedError(str(answer.header.get("message")))
        return bytes(answer.body)

    async def ping(self) -> None:
        """Returns when the store answers.

        Raises:
            NotRunningError: it does not.
        """
        try:
            async with asyncio.timeout(self._connect_timeout):
                line = await self._connect()
                try:
                    await _ask(line, Frame({"request": "ping"}))
                finally:
                    line[1].close()
        except (OSError, TimeoutError, InvalidRequestError) as error:
            raise NotRunningError(f"the store at {self._path} is away: {error}") from error

    async def close(self) -> None:
        """Hangs up; a later call connects again."""
        self._hang_up()

    async def _ask_on_line(self, request: Frame) -> Frame:
        if self._line is None or self._line[0].at_eof():
            self._hang_up()
            self._line = await self._connect()
        try:
            return await _ask(self._line, request)
        except BaseException:  # also a timeout: the next answer on this line would be that of another request
            self._hang_up()
            raise

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(self._connect_timeout):
                return await asyncio.open_unix_connection(self._path)
        except TimeoutError as error:
            raise NotRunningError(f"the store at {self._path} accepts no connection") from error

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line[1].close()
            self._line = None


async def _ask(line: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: Frame) -> Frame:
    await write_frame(line[1], request)
    answer = await read_frame(line[0])
    if answer is None:
        raise NotRunningError("it hung up before it answered")
    return answer

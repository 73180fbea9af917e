"""The store process: the embedded ClickHouse behind a unix socket.

Started by the supervisor as `python -m mixer_py.runtime.store`; ends with it. One thread writes, a few read; the event
loop only carries frames, so it beats whatever the database does. When the disk does not hold what was written, the
process ends with 1, and its successor opens the folder anew.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog

from mixer_py.config.log import LogSettings
from mixer_py.errors import ConfigurationError, Fault, InvalidRequestError, MixerError, QueryFailedError, SinkError
from mixer_py.instruments import Registry, Table
from mixer_py.instruments.store_errors import store_errors
from mixer_py.runtime import (
    arrow,  # noqa: F401 (before any row is handled)
    childhood,
)
from mixer_py.runtime.control import ControlChannel, Message, die_with_parent, refused
from mixer_py.runtime.logs import configure_logs
from mixer_py.runtime.priority import stand_back
from mixer_py.runtime.unix_socket import bind_private
from mixer_py.runtime.vital_signs import VitalSigns
from mixer_py.telemetry.store.batches import decode_batch
from mixer_py.telemetry.store.engine import KEEP_FREE, MEMORY, StoreEngine
from mixer_py.telemetry.store.protocol import MAX_BODY, Frame, QueryLimits, read_frame, write_frame

_NICENESS = 5
"""A quarter of a processor that calls want as well: rows can wait, and those that cannot are spooled."""
_READERS = 2
_MAX_WAITING_QUERIES = 32
_INSPECT_SECONDS = 10.0
"""Between checks of merged parts; well below the time that their sources stay on disk."""


class Store:
    """One store's life."""

    def __init__(self, control: ControlChannel, registry: Registry, engine: StoreEngine, path: Path) -> None:
        self._control = control
        self._engine = engine
        self._path = path
        self._vital_signs = VitalSigns(registry)
        self._errors = store_errors(registry)
        self._writer = ThreadPoolExecutor(1, "writer")
        self._inspector = ThreadPoolExecutor(1, "inspector")
        self._readers = ThreadPoolExecutor(_READERS, "reader")
        self._queries = 0
        self._opened = False
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._log = structlog.get_logger("store")

    async def run(self) -> int:
        """Serves until it is told to end, the supervisor is gone, or the disk lies; the exit code."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop.set)
        background = [asyncio.create_task(self._vital_signs.beat_for_ever())]
        stopping = asyncio.create_task(self._stop.wait())
        code = 0
        try:
            while not self._stop.is_set():
                receiving = asyncio.create_task(self._control.receive())
                await asyncio.wait({receiving, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not receiving.done():  # SIGTERM, or the disk lies
                    receiving.cancel()
                    break
                message = receiving.result()
                if message is None:  # the supervisor is gone, so nobody would ever end this process
                    code = 1
                    break
                answer = await self._obey(message)
                if answer["event"] == "listening":
                    background.append(asyncio.create_task(self._inspect()))
                await self._control.send(answer)
            await self._drain()
        finally:
            for task in (*background, stopping):
                task.cancel()
        return 1 if self._engine.broken else code

    async def _obey(self, message: Message) -> Message:
        if message.get("command") != "start" or self._opened:
            return refused([Fault(f"unknown command {message.get('command')!r}, or a second start")])
        configure_logs(LogSettings.model_validate(message.get("log", {})), "store")
        self._vital_signs.loading(now=True)
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, self._engine.open, _retention(message))
            self._opened = True
            self._server = await asyncio.start_unix_server(self._serve, sock=bind_private(self._path))
        except ConfigurationError as error:
            return refused(error.faults)
        except OSError as error:
            return refused([Fault(f"cannot listen on {self._path}: {error}")])
        finally:
            self._vital_signs.loading(now=False)
        self._log.info("listening", socket=str(self._path))
        return {"event": "listening"}

    async def _inspect(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._engine.broken:
            try:
                await loop.run_in_executor(self._inspector, self._engine.inspect)
            except SinkError as error:
                self._count(error.reason)
                self._stop.set()
            except RuntimeError:  # the database's own; rows are still verified when they are written
                self._count("inspect_failed")
                self._log.exception(
                    "parts cannot be inspected",
                    way_out="see the disk behind telemetry.clickhouse.url; runbook MixerStoreErrors",
                )
            await asyncio.sleep(_INSPECT_SECONDS)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:  # never: the server makes one for each connection
            return
        self._connections.add(task)
        try:
            while not self._stop.is_set() and (frame := await read_frame(reader)) is not None:
                self._busy.add(task)
                await write_frame(writer, await self._answer(frame))
                self._busy.discard(task)
        except InvalidRequestError as error:
            self._count("protocol")
            self._log.error(
                "a connection does not speak the store's protocol",
                way_out="let nobody but mixer into its private folder",
                error=str(error),
            )
        except (OSError, asyncio.CancelledError):
            pass  # the client hung up, or the store ends and nobody waits on this connection
        finally:
            self._busy.discard(task)
            self._connections.discard(task)
            writer.close()

    async def _answer(self, frame: Frame) -> Frame:
        handlers = {"write": self._write, "query": self._query, "ping": self._ping}
        handler = handlers.get(str(frame.header.get("request")))
        if handler is None:
            return self._failure("protocol", f"unknown request {frame.header.get('request')!r}")
        try:
            return await handler(frame)
        except QueryFailedError as error:
            return _failed("query_failed", str(error))  # the asker's fault, so not counted
        except SinkError as error:
            kind, message = error.reason, str(error)
        except InvalidRequestError as error:
            kind, message = "invalid", str(error)
        except RuntimeError as error:  # the database's own: one request costs itself
            kind, message = "insert_failed", str(error)
        self._log.error(
            "rows were not written",
            way_out="they are kept and tried again; runbook MixerRowsNotWritten",
            reason=kind,
            error=message,
        )  # counted by whoever holds the rows
        return _failed(kind, message)

    async def _ping(self, _frame: Frame) -> Frame:
        return Frame({"ok": True})

    async def _write(self, frame: Frame) -> Frame:
        table, token = str(frame.header.get("table")), str(frame.header.get("token"))

        def work() -> int:
            return self._engine.write(table, decode_batch(frame.body), token)

        try:
            rows = await asyncio.get_running_loop().run_in_executor(self._writer, work)
        finally:
            if self._engine.broken:
                self._stop.set()
        return Frame({"ok": True, "rows": rows})

    async def _query(self, frame: Frame) -> Frame:
        sql, limits = str(frame.header.get("sql")), QueryLimits.from_header(frame.header.get("limits"))
        if self._queries >= _MAX_WAITING_QUERIES:
            return self._failure("busy", f"{self._queries} queries wait already; try again later")
        self._queries += 1
        try:
            loop = asyncio.get_running_loop()
            body = await loop.run_in_executor(self._readers, self._engine.query, sql, limits)
        finally:
            self._queries -= 1
        answer = Frame({"ok": True}, body)
        return answer if len(body) <= MAX_BODY else _failed("query_failed", "the result is too large; ask for less")

    async def _drain(self) -> None:
        """Ends what runs, answers it, and lets go of the folder."""
        self._stop.set()
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
        for task in self._connections - self._busy:
            task.cancel()
        self._readers.shutdown(wait=False, cancel_futures=True)
        loop = asyncio.get_running_loop()
        if self._opened:
            await loop.run_in_executor(None, self._engine.cancel_queries)
        await asyncio.gather(*self._connections, return_exceptions=True)
        await loop.run_in_executor(None, self._inspector.shutdown)
        if self._opened:
            await loop.run_in_executor(self._writer, self._engine.close)
        self._writer.shutdown()

    def _count(self, reason: str) -> None:
        self._errors.labels(reason).add()

    def _failure(self, kind: str, message: str) -> Frame:
        self._count(kind)
        self._log.error("a request was refused", way_out="report it with this line", reason=kind, error=message)
        return _failed(kind, message)


def _failed(kind: str, message: str) -> Frame:
    return Frame({"ok": False, "kind": kind, "message": message})


def _retention(message: Message) -> dict[str, int]:
    """Seconds that rows are kept, as `Layout.retention` has them."""
    told = message.get("retention")
    return {str(table): int(seconds) for table, seconds in told.items()} if isinstance(told, dict) else {}


async def _run(options: argparse.Namespace) -> int:
    registry = Registry(Table(options.table))
    control = await ControlChannel.over(socket.socket(fileno=options.control_fd))
    engine = StoreEngine(options.directory, options.database, memory=options.memory, keep_free=options.keep_free)
    with contextlib.suppress(MixerError):  # the supervisor is gone in the middle of an answer
        return await Store(control, registry, engine, options.socket).run()
    return 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a store; the exit code."""
    die_with_parent()
    stand_back(_NICENESS)
    parser = childhood.command_line("mixer_py.runtime.store")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--memory", type=int, default=MEMORY, help="bytes that the database may use")
    parser.add_argument("--keep-free", type=int, default=KEEP_FREE, help="bytes of the disk that are never used")
    options = parser.parse_args(arguments)
    return childhood.run(_run(options))


if __name__ == "__main__":
    raise SystemExit(main())

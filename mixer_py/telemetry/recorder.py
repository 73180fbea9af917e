"""Keeps rows until they are written, never longer than it may, and books every one of them.

For each table, received + adopted = written + dropped + left + waiting in memory + waiting on disk, whenever nothing
is moving (`booking.py`). Taking a row never waits and never raises. One block a table is on its way at a time; it keeps
its token until it is written, so that a retry after an answer that was lost does not store it twice.
Not for: how a table's rows wait (`table_queue.py`, `spool/`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pyarrow as pa
import structlog

from mixer_py.instruments import Clock, Registry
from mixer_py.instruments.store_errors import store_errors
from mixer_py.telemetry.booking import Booking
from mixer_py.telemetry.columns import TABLES
from mixer_py.telemetry.settings import QueueSettings
from mixer_py.telemetry.sinks import Sink
from mixer_py.telemetry.spool.spool import SpoolFolder
from mixer_py.telemetry.spool.table_spool import TableSpool
from mixer_py.telemetry.table_queue import TableQueue

_LOOK_SECONDS: Final = 30.0
"""How often the spools of processes that ended are looked for; one that is replaced has its own found at once."""


class Recorder:
    """The queues in front of a sink."""

    def __init__(
        self,
        settings: QueueSettings,
        registry: Registry,
        clock: Clock,
        sink: Sink | None,
        spool: SpoolFolder | None = None,
        *,
        spool_first: bool = False,
        waiting_tables: Collection[str] = (),
    ) -> None:
        """Prepares a queue for every table.

        Args:
            settings: how much may wait in memory.
            registry: gets `mixer_rows_total`, `mixer_queue_rows`, `mixer_spool_rows`, `mixer_spool_bytes` and
                `mixer_store_errors_total`.
            clock: for the age of a block.
            sink: where blocks go; None when nothing is configured to keep rows: they are then not received at all.
            spool: where rows wait on disk; None to wait in memory only. It is closed at the end.
            spool_first: every row goes to the spool before it goes to the sink.
            waiting_tables: those whose rows are never dropped for want of room: who puts them waits for `room`.
        """
        self._sink = sink
        self._waiting_tables = frozenset(waiting_tables if sink is not None else ())
        self._folder = spool
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._errors = store_errors(registry)
        self._booking = {name: Booking(name, registry) for name in TABLES}
        spools = spool.spools if spool is not None and sink is not None else {}
        self._spools = {
            name: TableSpool(name, one, self._disk, self._booking[name], registry) for name, one in spools.items()
        }
        self._queues = {
            name: TableQueue(
                name, settings, registry, clock, self._booking[name], self._spools.get(name), spool_first=spool_first
            )
            for name in TABLES
        }
        self._writing: list[asyncio.Task[None]] = []
        self._spooling: list[asyncio.Task[None]] = []
        self._log = structlog.get_logger("telemetry")

    def put(self, table: str, batch: pa.RecordBatch, *, promised: bool = False) -> None:
        """Takes rows; above the bound, the oldest that wait are dropped, unless these were promised room."""
        if self._sink is not None:
            self._queues[table].put(batch, promised=promised or table in self._waiting_tables)

    def has_room(self, table: str, rows: int, size: int) -> bool:
        """Whether more than so many rows, of so many bytes, could still be put without a loss."""
        return self._sink is None or self._queues[table].has_room(rows, size)

    async def room(self, table: str) -> bool:
        """For a table of `waiting_tables`: waits until there is room for more of its rows; whether there was none."""
        waited = False
        while table in self._waiting_tables and not self._queues[table].has_room(0, 0):
            waited = True
            await self._queues[table].freed()
        return waited

    async def freed(self, table: str) -> None:
        """Waits until some of the table's rows have left memory."""
        await self._queues[table].freed()

    async def kept(self, table: str) -> None:
        """Where every row goes to disk first (`spool_first`): waits until all that were put are there."""
        if self._sink is not None:
            await self._queues[table].kept()

    def count_dropped(self, table: str, rows: int, reason: str) -> None:
        """Books rows that never became any: received, and dropped for a reason such as `malformed`."""
        if self._sink is not None:
            self._queues[table].count_dropped(rows, reason)

    def start(self) -> None:
        """Begins to write, a task for each table, and to look for spools of processes that ended."""
        if self._sink is None:
            return
        self._writing = [asyncio.create_task(queue.run(self._sink)) for queue in self._queues.values()]
        if self._spools:
            self._spooling = [asyncio.create_task(queue.keep_spooling()) for queue in self._queues.values()]
            self._writing.append(asyncio.create_task(self._take_over_for_ever()))

    async def drain(self, timeout: float) -> int:  # noqa: ASYNC109 (what is left at the end is a normal outcome)
        """Writes what waits at once, and gives up after `timeout` seconds; what is left goes to the spool.

        Returns:
            Rows that could be neither written nor spooled; they are booked as dropped with reason `shutdown`.
        """
        emptying = [queue.empty() for queue in self._queues.values()] if self._writing else []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await asyncio.gather(*emptying)
        for task in self._writing:
            task.cancel()
        for queue in self._queues.values():
            queue.stop_spooling()
        await asyncio.gather(*self._writing, *self._spooling, return_exceptions=True)
        if self._sink is not None:
            await self._sink.close()
        lost = sum([await queue.give_up() for queue in self._queues.values()])
        if self._folder is not None:
            folder, self._folder = self._folder, None
            await asyncio.get_running_loop().run_in_executor(self._disk, folder.close)
        self._disk.shutdown()
        return lost

    async def _take_over_for_ever(self) -> None:
        while True:
            await self._take_over()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _take_over(self) -> None:
        """Goes on with what processes that ended have left in their spools."""
        if self._folder is None:
            return
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._disk, self._folder.take_over)
        except OSError as error:
            self._errors.labels("spool").add()
            self._log.error(
                "spools of processes that ended cannot be read",
                way_out="let this user read the folder of telemetry.spool",
                error=str(error),
            )
            return
        for table, rows in found.ours.items():
            self._booking[table].adopted(rows)
        for table, rows in found.earlier.items():
            self._booking[table].received(rows)
        for fault in found.faults:
            self._errors.labels("spool_damaged").add()
            self._log.error(
                "rows of the spool cannot be read; a damaged file is kept with the ending .damaged",
                way_out="replace the disk, or let the version that wrote it write its rows; runbook MixerRowsLost",
                error=fault,
            )
        for table in {*found.ours, *found.earlier}:
            self._spools[table].show()
            self._queues[table].wake()

"""Keeps rows until they are written, never longer than it may, and books every one of them.

For each table, received = written + dropped + waiting holds whenever nothing is moving. Taking a row never waits and
never raises. One block a table is on its way at a time; it keeps its token until it is written, so that a retry
after an answer that was lost does not store it twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections import deque

import pyarrow as pa
import structlog

from mixer_py.errors import SinkError
from mixer_py.instruments import Clock, Registry
from mixer_py.telemetry import validation
from mixer_py.telemetry.columns import TABLES
from mixer_py.telemetry.settings import QueueSettings
from mixer_py.telemetry.sinks import Sink

ROWS = "mixer_rows_total"
INVALID = "invalid"
"""Reason of rows that no sink will ever take."""
_UNEXPECTED = "unexpected"
_UNEXPECTED_ATTEMPTS = 5
"""How often a block is tried with which a sink fails as it never should."""
_BLOCK_BYTES = 16 << 20
_FIRST_RETRY = 0.1
_LONGEST_RETRY = 5.0


class Recorder:
    """The queue in front of a sink."""

    def __init__(self, settings: QueueSettings, registry: Registry, clock: Clock, sink: Sink | None) -> None:
        """Prepares a queue for every table.

        Args:
            settings: how much may wait.
            registry: gets `mixer_rows_total`, `mixer_queue_rows` and `mixer_store_errors_total`.
            clock: for the age of a block.
            sink: where blocks go; None when nothing is configured to keep rows: they are then not received at all.
        """
        self._sink = sink
        self._queues = {name: _TableQueue(name, settings, registry, clock) for name in TABLES}
        self._tasks: list[asyncio.Task[None]] = []

    def put(self, table: str, batch: pa.RecordBatch, *, promised: bool = False) -> None:
        """Takes rows; above the bound, the oldest that wait are dropped, unless these were promised room."""
        if self._sink is not None:
            self._queues[table].put(batch, promised=promised)

    def has_room(self, table: str, rows: int, size: int) -> bool:
        """Whether more than so many rows, of so many bytes, could still be put without a loss."""
        return self._sink is None or self._queues[table].has_room(rows, size)

    async def freed(self, table: str) -> None:
        """Waits until a block of the table's rows was written or dropped."""
        await self._queues[table].freed()

    def count_dropped(self, table: str, rows: int, reason: str) -> None:
        """Books rows that never became any: received, and dropped for a reason such as `malformed`."""
        if self._sink is not None:
            self._queues[table].count_dropped(rows, reason)

    def start(self) -> None:
        """Begins to write, a task for each table."""
        if self._sink is not None:
            self._tasks = [asyncio.create_task(queue.run(self._sink)) for queue in self._queues.values()]

    async def drain(self, timeout: float) -> int:  # noqa: ASYNC109 (what is left at the end is a normal outcome)
        """Writes what waits at once, and gives up after `timeout` seconds.

        Returns:
            Rows that could not be written; they are booked as dropped with reason `shutdown`.
        """
        emptying = [queue.empty() for queue in self._queues.values()] if self._tasks else []
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*emptying), timeout)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._sink is not None:
            await self._sink.close()
        return sum(queue.give_up() for queue in self._queues.values())


class _TableQueue:
    """Rows of one table."""

    def __init__(self, table: str, settings: QueueSettings, registry: Registry, clock: Clock) -> None:
        self._table = table
        self._settings = settings
        self._clock = clock
        self._batches: deque[tuple[pa.RecordBatch, int]] = deque()
        self._rows = 0
        self._bytes = 0
        self._in_hand = 0
        self._bytes_in_hand = 0
        self._ending = False
        self._oldest = 0.0
        self._arrived = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._hurry = asyncio.Event()
        self._left = asyncio.Event()
        self._booked = registry.counter(ROWS, "Rows by table and what became of them.", ("table", "state", "reason"))
        self._received = self._booked.labels(table, "received", "")
        self._written = self._booked.labels(table, "written", "")
        self._full = self._booked.labels(table, "dropped", "queue_full")
        self._invalid = self._booked.labels(table, "dropped", INVALID)
        self._gauge = registry.gauge("mixer_queue_rows", "Rows that wait to be written.", ("table",)).labels(table)
        self._errors = registry.counter("mixer_store_errors_total", "Failures of stores by reason.", ("reason",))
        self._log = structlog.get_logger("telemetry").bind(table=table)

    def has_room(self, rows: int, size: int) -> bool:
        """Whether more than so many rows, of so many bytes, would fit."""
        return (
            self._rows + self._in_hand + rows < self._settings.rows
            and self._bytes + self._bytes_in_hand + size < self._settings.bytes
        )

    async def freed(self) -> None:
        """Waits until a block has left."""
        self._left.clear()
        await self._left.wait()

    def put(self, batch: pa.RecordBatch, *, promised: bool = False) -> None:
        rows = len(batch)
        try:
            validation.check(self._table, batch)
        except (SinkError, pa.ArrowException) as error:
            self._log.error("rows cannot be stored; they are dropped", rows=rows, error=str(error))
            self.count_dropped(rows, INVALID)
            return
        self._received.add(rows)
        if not self._batches:
            self._oldest = self._clock.monotonic()
        size = batch.nbytes
        self._batches.append((batch, size))
        self._rows += rows
        self._bytes += size
        while self._batches and self._is_full() and not promised:
            self._full.add(len(self._pop()[0]))
        self._show()
        self._arrived.set()
        if self._rows >= self._settings.block_rows:
            self._hurry.set()

    def count_dropped(self, rows: int, reason: str) -> None:
        self._received.add(rows)
        self._booked.labels(self._table, "dropped", reason).add(rows)

    async def run(self, sink: Sink) -> None:
        """Writes block after block, for ever. Ends by cancellation only."""
        while True:
            await self._arrived.wait()
            await self._until_due()
            block = self._take()
            if block is not None:
                written = await self._write(sink, block, uuid.uuid4().hex)
                self._in_hand = self._bytes_in_hand = 0
                (self._written if written else self._invalid).add(len(block))
                self._left.set()
                self._show()

    async def empty(self) -> None:
        """Waits until nothing waits; from now on no block waits for more rows."""
        self._ending = True
        while self._rows + self._in_hand:
            self._emptied.clear()
            self._hurry.set()
            await self._emptied.wait()

    def give_up(self) -> int:
        """Books what still waits as dropped."""
        left = self._rows + self._in_hand
        if left:
            self._booked.labels(self._table, "dropped", "shutdown").add(left)
            self._log.error("rows could not be written before the end", rows=left)
        self._batches.clear()
        self._rows = self._bytes = self._in_hand = self._bytes_in_hand = 0
        self._show()
        return left

    def _is_full(self) -> bool:
        return (
            self._rows + self._in_hand > self._settings.rows or self._bytes + self._bytes_in_hand > self._settings.bytes
        )

    def _pop(self) -> tuple[pa.RecordBatch, int]:
        """The oldest batch, no longer counted as waiting."""
        batch, size = self._batches.popleft()
        self._rows -= len(batch)
        self._bytes -= size
        return batch, size

    async def _until_due(self) -> None:
        """Waits until a block is large or old enough."""
        if self._ending:
            return
        age = self._clock.monotonic() - self._oldest
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), max(self._settings.block_interval - age, 0.0))

    def _take(self) -> pa.RecordBatch | None:
        """Takes whole batches for one block; None when they were all dropped meanwhile."""
        taken: list[pa.RecordBatch] = []
        while self._batches and self._in_hand < self._settings.block_rows and self._bytes_in_hand < _BLOCK_BYTES:
            batch, size = self._pop()
            taken.append(batch)
            self._in_hand += len(batch)
            self._bytes_in_hand += size
        self._oldest = self._clock.monotonic()
        if not self._batches:
            self._arrived.clear()
        if self._rows < self._settings.block_rows:
            self._hurry.clear()
        return pa.Table.from_batches(taken).combine_chunks().to_batches()[0] if self._in_hand else None

    async def _write(self, sink: Sink, block: pa.RecordBatch, token: str) -> bool:
        """Writes a block, however long that takes; False when the sink never will."""
        delay, unexpected = _FIRST_RETRY, 0
        while True:
            error = await self._attempt(sink, block, token)
            if error is None:
                return True
            self._errors.labels(error.reason).add()
            unexpected += error.reason == _UNEXPECTED
            if error.reason == INVALID or unexpected >= _UNEXPECTED_ATTEMPTS:
                self._log.error("block refused; its rows are dropped", rows=len(block), error=str(error))
                return False
            self._log.warning("block not written; it is tried again", rows=len(block), error=str(error))
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 (spreads retries; no secret)
            delay = min(delay * 2, _LONGEST_RETRY)

    async def _attempt(self, sink: Sink, block: pa.RecordBatch, token: str) -> SinkError | None:
        try:
            await sink.write(self._table, block, token)
        except SinkError as error:
            return error
        except Exception as error:  # noqa: BLE001 (a fault of a sink costs its block, never all that come later)
            self._log.exception("a sink failed as it never should")
            return SinkError(f"{type(error).__name__}: {error}", _UNEXPECTED)
        return None

    def _show(self) -> None:
        waiting = self._rows + self._in_hand
        self._gauge.set(waiting)
        if not waiting:
            self._emptied.set()

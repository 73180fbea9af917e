"""Rows of one table on their way: in memory, on disk when there is a spool, and one block at a time to the sink.

Not for: the files of the spool (`spool/`), or what a sink does with a block (`sinks/`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

import pyarrow as pa
import structlog

from mixer_py.errors import SinkError
from mixer_py.instruments import Clock, Registry
from mixer_py.instruments.store_errors import store_errors
from mixer_py.telemetry import validation
from mixer_py.telemetry.booking import INVALID, QUEUE_FULL, SHUTDOWN, Booking
from mixer_py.telemetry.settings import QueueSettings
from mixer_py.telemetry.sinks import Sink
from mixer_py.telemetry.spool.segments import Block
from mixer_py.telemetry.spool.table_spool import TableSpool

_UNEXPECTED: Final = "unexpected"
_UNEXPECTED_ATTEMPTS: Final = 5
"""How often a block is tried with which a sink fails as it never should."""
_LARGEST_SHARE: Final = 1 / 8
"""Of the room in memory, that rows take which are dropped together."""
_BLOCK_BYTES: Final = 16 << 20
_MOVED_BYTES: Final = 4 << 20
"""How much is moved from memory to disk at once."""
_FIRST_RETRY: Final = 0.1
_LONGEST_RETRY: Final = 5.0


class _InHand(NamedTuple):
    """A block on its way to the sink.

    Attributes:
        rows: its rows.
        token: names it, however often it is tried.
        size: bytes that its rows took in memory; 0 when they stand on disk.
        spooled: where it stands on disk; None for rows from memory.
    """

    rows: pa.RecordBatch
    token: str
    size: int
    spooled: Block | None


class TableQueue:
    """Rows of one table."""

    def __init__(
        self,
        table: str,
        settings: QueueSettings,
        registry: Registry,
        clock: Clock,
        booking: Booking,
        spool: TableSpool | None = None,
        *,
        spool_first: bool = False,
    ) -> None:
        """Starts empty.

        Args:
            table: name of the table.
            settings: how much may wait in memory.
            registry: gets `mixer_queue_rows` and `mixer_store_errors_total`.
            clock: for the age of a block.
            booking: where rows are booked.
            spool: where rows wait that memory is not to hold.
            spool_first: every row goes to the spool before it goes to the sink, not only what memory has no room for.
        """
        self._table = table
        self._settings = settings
        self._clock = clock
        self._booking = booking
        self._spool = spool
        self._spool_first = spool_first
        self._promised = False
        self._spool_fails = False
        self._batches: deque[tuple[pa.RecordBatch, int]] = deque()
        self._rows = self._bytes = 0  # in `_batches`
        self._taken_rows = self._taken_bytes = 0  # out of it, on their way to the sink or to the disk
        self._ending = self._stopped = False
        self._oldest = 0.0
        self._in_hand: _InHand | None = None
        self._arrived = asyncio.Event()
        self._crowded = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._hurry = asyncio.Event()
        self._left = asyncio.Event()
        waiting = registry.gauge("mixer_queue_rows", "Rows that wait in memory to be written.", ("table",))
        self._gauge = waiting.labels(table)
        self._errors = store_errors(registry)
        self._log = structlog.get_logger("telemetry").bind(table=table)

    def has_room(self, rows: int, size: int) -> bool:
        """Whether more than so many rows, of so many bytes, would fit."""
        return (
            self._rows + self._taken_rows + rows < self._settings.rows
            and self._bytes + self._taken_bytes + size < self._settings.bytes
        )

    async def freed(self) -> None:
        """Waits until rows have left memory."""
        self._left.clear()
        await self._left.wait()

    async def kept(self) -> None:
        """Where every row goes to disk first: waits until all that were put are there."""
        while self._spool_first and self._waiting:
            await self.freed()

    def put(self, batch: pa.RecordBatch, *, promised: bool = False) -> None:
        """Takes rows; above the bound, the oldest that wait are dropped, unless these were promised room."""
        rows = len(batch)
        try:
            validation.check(self._table, batch)
        except (SinkError, pa.ArrowException) as error:
            self._log.error(
                "rows cannot be stored; they are dropped",
                way_out="report it with this line; runbook MixerRowsLost",
                rows=rows,
                error=str(error),
            )
            self.count_dropped(rows, INVALID)
            return
        self._promised = promised
        self._booking.received(rows)
        if not self._batches:
            self._oldest = self._clock.monotonic()
        for part, size in self._parts(batch):
            self._batches.append((part, size))
            self._rows += len(part)
            self._bytes += size
        while self._batches and not promised and self._is_above(1.0):
            self._booking.dropped(len(self._pop()[0]), QUEUE_FULL)
        self._show()
        self._arrived.set()
        if self._rows >= self._settings.block_rows:
            self._hurry.set()

    def _parts(self, batch: pa.RecordBatch) -> Iterator[tuple[pa.RecordBatch, int]]:
        """The batch in parts of which several find room, so that a large one is not dropped as a whole; their bytes."""
        size = batch.nbytes  # asks each column
        share = max(size / self._settings.bytes, len(batch) / self._settings.rows)
        rows = len(batch) if share <= _LARGEST_SHARE else max(int(len(batch) / share * _LARGEST_SHARE), 1)
        for part in (batch.slice(first, rows) for first in range(0, len(batch), rows)):
            yield part, size if len(part) == len(batch) else part.nbytes

    def count_dropped(self, rows: int, reason: str) -> None:
        """Books rows that never became any: received, and dropped."""
        self._booking.received(rows)
        self._booking.dropped(rows, reason)

    def wake(self) -> None:
        """Looks at the spool again, in which there may be rows of a process that ended."""
        self._arrived.set()

    async def run(self, sink: Sink) -> None:
        """Writes block after block, for ever. Ends by cancellation only."""
        while True:
            await self._arrived.wait()
            await self._until_due()
            self._in_hand = await self._next()
            if self._in_hand is not None:
                written = await self._write(sink, self._in_hand)
                await self._finish(self._in_hand, written=written)
                self._in_hand = None
                self._left.set()
                self._show()

    async def keep_spooling(self) -> None:
        """Moves rows from memory to disk as the mode says, until `stop_spooling`.

        Never to be cancelled: what a thread is writing would be on disk and in memory.
        """
        while not self._stopped:
            await self._crowded.wait()
            if not self._stopped and not await self._move():
                await asyncio.sleep(_FIRST_RETRY)

    def stop_spooling(self) -> None:
        """Lets `keep_spooling` end."""
        self._stopped = True
        self._crowded.set()

    async def empty(self) -> None:
        """Waits until nothing waits; from now on no block waits for more rows."""
        self._ending = True
        while self._waiting or (self._spool is not None and self._spool.rows):
            self._emptied.clear()
            self._hurry.set()
            await self._emptied.wait()

    async def give_up(self) -> int:
        """Spools what still waits in memory, or books it as dropped; how many rows that were.

        Only when neither `run` nor `keep_spooling` runs any more.
        """
        in_hand = self._in_hand
        if self._spool is not None:
            try:
                if in_hand is not None and in_hand.spooled is None:
                    await self._spool.append_begun(in_hand.rows, in_hand.token)
                    self._taken_rows = self._taken_bytes = 0
                while self._batches and await self._move():
                    continue
            except OSError as error:
                self._spool_failed(error)
        left = self._waiting
        if left:
            self._booking.dropped(left, SHUTDOWN)
            self._log.error(
                "rows could not be written before the end",
                way_out="raise server.flush_timeout, or set telemetry.spool; runbook MixerRowsLost",
                rows=left,
            )
        self._batches.clear()
        self._rows = self._bytes = self._taken_rows = self._taken_bytes = 0
        self._show()
        return left

    @property
    def _waiting(self) -> int:
        """Rows in memory that are in no spool."""
        return self._rows + self._taken_rows

    def _is_above(self, share: float) -> bool:
        """Whether memory holds more than a share of what it may."""
        return (
            self._waiting > self._settings.rows * share
            or self._bytes + self._taken_bytes > self._settings.bytes * share
        )

    def _pop(self) -> tuple[pa.RecordBatch, int]:
        """The oldest batch, no longer counted as waiting."""
        batch, size = self._batches.popleft()
        self._rows -= len(batch)
        self._bytes -= size
        return batch, size

    def _pop_many(self, rows: int, size: int) -> tuple[pa.RecordBatch, int] | None:
        """The oldest batches as one, up to that which reaches so many rows or bytes, counted as taken; their bytes."""
        batches: list[pa.RecordBatch] = []
        taken_rows = taken_bytes = 0
        while self._batches and taken_rows < rows and taken_bytes < size:
            batch, length = self._pop()
            batches.append(batch)
            taken_rows += len(batch)
            taken_bytes += length
        self._taken_rows += taken_rows
        self._taken_bytes += taken_bytes
        return (pa.concat_batches(batches), taken_bytes) if batches else None

    async def _until_due(self) -> None:
        """Waits until a block is large or old enough."""
        if self._ending or (self._spool is not None and self._spool.rows >= self._settings.block_rows):
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._oldest + self._settings.block_interval - self._clock.monotonic()):
                await self._hurry.wait()

    async def _next(self) -> _InHand | None:
        """The next block: from the spool, whose rows are older, else from memory; but not if all are spooled first."""
        token = uuid.uuid4().hex
        if self._spool is not None and self._spool.rows:
            try:
                spooled = await self._spool.take(self._settings.block_rows, _BLOCK_BYTES, token)
            except OSError as error:
                self._spool_failed(error)
                await asyncio.sleep(_FIRST_RETRY)
                return None
            if spooled is not None:
                block, rows = spooled
                return _InHand(rows, block.token, 0, block)
        taken = None if self._spool_first else self._pop_many(self._settings.block_rows, _BLOCK_BYTES)
        self._oldest = self._clock.monotonic()
        if not self._batches or self._spool_first:
            self._arrived.clear()
        if self._rows < self._settings.block_rows:
            self._hurry.clear()
        return None if taken is None else _InHand(taken[0], token, taken[1], None)

    async def _write(self, sink: Sink, block: _InHand) -> bool:
        """Writes a block, however long that takes; False when the sink never will."""
        delay, unexpected = _FIRST_RETRY, 0
        while len(block.rows):
            rows, begun = len(block.rows), self._clock.monotonic()
            error = await self._attempt(sink, block)
            if error is None:
                self._log.debug("block written", rows=rows, seconds=round(self._clock.monotonic() - begun, 6))
                return True
            self._errors.labels(error.reason).add()
            unexpected += error.reason == _UNEXPECTED
            if error.reason == INVALID or unexpected >= _UNEXPECTED_ATTEMPTS:
                self._log.error(
                    "block refused; its rows are dropped",
                    way_out="see the columns of the tables; runbook MixerRowsLost",
                    rows=len(block.rows),
                    error=str(error),
                )
                return False
            self._log.warning(
                "block not written; it is tried again",
                way_out="runbook MixerRowsNotWritten",
                rows=len(block.rows),
                error=str(error),
            )
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 (spreads retries; no secret)
            delay = min(delay * 2, _LONGEST_RETRY)
        return True  # all of its rows were damaged on disk

    async def _attempt(self, sink: Sink, block: _InHand) -> SinkError | None:
        try:
            if block.spooled is not None:  # by another version, perhaps
                validation.check(self._table, block.rows)
            await sink.write(self._table, block.rows, block.token)
        except SinkError as error:
            return error
        except (OSError, MemoryError) as error:  # nothing is wrong with the rows: this process lacks something
            return SinkError(f"{type(error).__name__}: {error}", "resources")
        except Exception as error:  # noqa: BLE001 (a fault of a sink costs its block, never all that come later)
            self._log.exception("a sink failed as it never should", way_out="report it with this line")
            return SinkError(f"{type(error).__name__}: {error}", _UNEXPECTED)
        return None

    async def _finish(self, block: _InHand, *, written: bool) -> None:
        """Books a block that has left."""
        rows = len(block.rows)
        if written:
            self._booking.written(rows)
        else:
            self._booking.dropped(rows, INVALID)
        if block.spooled is None:
            self._taken_rows -= rows
            self._taken_bytes -= block.size
        elif self._spool is not None:
            try:
                await self._spool.finish(block.spooled)
            except OSError as error:
                self._spool_failed(error)

    async def _move(self) -> bool:
        """Moves the oldest rows from memory to disk; whether that was possible."""
        spool = self._spool
        taken = self._pop_many(self._settings.block_rows, _MOVED_BYTES)
        if spool is None or taken is None:
            return True
        batch, size = taken
        moved = False
        try:
            moved = await spool.append(batch, evict=not self._promised)
            self._spool_works()
        except OSError as error:
            self._spool_failed(error)
        self._taken_rows -= len(batch)
        self._taken_bytes -= size
        if not moved:
            self._batches.appendleft((batch, size))
            self._rows += len(batch)
            self._bytes += size
        self._left.set()
        self._show()
        self._arrived.set()
        return moved

    def _spool_failed(self, error: OSError) -> None:
        self._errors.labels("spool").add()
        if not self._spool_fails:  # it is tried ten times a second
            self._log.error(
                "the spool cannot be used; rows stay in memory, within its bound",
                way_out="see the folder of telemetry.spool and its disk; runbook MixerQueueFills",
                error=str(error),
            )
        self._spool_fails = True

    def _spool_works(self) -> None:
        if self._spool_fails:
            self._log.info("the spool can be used again")
        self._spool_fails = False

    def _show(self) -> None:
        waiting = self._waiting
        self._gauge.set(waiting)
        if self._spool is not None:
            crowded = self._rows > 0 and (self._spool_first or self._is_above(0.5))
            (self._crowded.set if crowded else self._crowded.clear)()
        if not waiting and (self._spool is None or not self._spool.rows):
            self._emptied.set()

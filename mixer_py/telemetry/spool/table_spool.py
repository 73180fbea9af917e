"""One table's spool as an event loop uses it: every call to the disk in a thread, and every row booked.

Not for: the files (`spool.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

import pyarrow as pa

from mixer_py.instruments import Registry
from mixer_py.telemetry.booking import SPOOL_DAMAGED, SPOOL_FULL, Booking, rows_on_disk
from mixer_py.telemetry.column import TableOfColumns
from mixer_py.telemetry.columns import TABLES
from mixer_py.telemetry.spool.segments import Block
from mixer_py.telemetry.spool.spool import Spool

Result = TypeVar("Result")


class TableSpool:
    """The rows of one table on disk."""

    def __init__(self, table: str, spool: Spool, disk: Executor, booking: Booking, registry: Registry) -> None:
        """Takes a spool over.

        Args:
            table: name of the table.
            spool: its rows.
            disk: one thread, in which all calls to the disk follow one another.
            booking: where rows are booked.
            registry: gets `mixer_spool_rows` and `mixer_spool_bytes`.
        """
        self._spool = spool
        self._disk = disk
        self._booking = booking
        self._columns = TABLES[table]
        self._rows = rows_on_disk(registry, table)
        self._bytes = registry.gauge("mixer_spool_bytes", "Bytes that they take on disk.", ("table",)).labels(table)

    @property
    def rows(self) -> int:
        """Rows that wait, those of a block on its way included."""
        return self._spool.rows

    async def append(self, batch: pa.RecordBatch, *, evict: bool) -> bool:
        """Adds rows behind all others.

        Args:
            batch: the rows.
            evict: drop the oldest when there is no more room.

        Returns:
            False when there is no more room and nothing may be dropped.

        Raises:
            OSError: they were not added.
        """
        if not evict and self._spool.full:
            return False
        dropped = await self._on_disk(lambda: self._spool.append(batch, evict=evict))
        self._booking.spooled(len(batch))
        self._book_dropped(dropped)
        return True

    async def append_begun(self, batch: pa.RecordBatch, token: str) -> None:
        """Adds the rows of a block that was tried already, before all others and with its token.

        Raises:
            OSError: they were not added.
        """
        dropped = await self._on_disk(lambda: self._spool.append_begun(batch, token))
        self._booking.spooled(len(batch))
        self._book_dropped(dropped)

    async def take(self, rows: int, size: int, token: str) -> tuple[Block, pa.RecordBatch] | None:
        """The oldest block, and its rows in the columns of today; None when nothing waits.

        Raises:
            OSError: the disk failed.
        """
        block = await self._on_disk(lambda: self._spool.take(rows, size, token))
        if block is None:
            return None
        batches = [conform(self._columns, batch) for batch in block.batches]
        return block, pa.concat_batches(batches) if batches else pa.RecordBatch.from_pylist([], self._columns.schema)

    async def finish(self, block: Block) -> None:
        """Counts a block as done.

        Raises:
            OSError: that could not be noted: after a restart it may be sent again, with its token.
        """
        try:
            await self._on_disk(lambda: self._spool.finish(block))
        finally:
            self._booking.dropped(block.damaged, SPOOL_DAMAGED)
            self.show()

    def show(self) -> None:
        """Sets the gauges."""
        self._rows.set(self._spool.rows)
        self._bytes.set(self._spool.bytes)

    def _book_dropped(self, rows: int) -> None:
        self._booking.dropped(rows, SPOOL_FULL)
        self.show()

    async def _on_disk(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._disk, call)


def conform(columns: TableOfColumns, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rows that another version of mixer spooled, in the columns of this one.

    A column that did not exist then has its default; one that no longer exists is left out. A column whose type has
    changed stays as it is: the rows are then refused, and booked, where all rows are validated.
    """
    if batch.schema == columns.schema:
        return batch
    values = []
    for column in columns.columns:
        place = batch.schema.get_field_index(column.name)
        known = batch.column(place) if place >= 0 else pa.array([column.kind.default] * len(batch), column.kind.arrow)
        values.append(known)
    fields = [field.with_type(value.type) for field, value in zip(columns.schema, values, strict=True)]
    return pa.RecordBatch.from_arrays(values, schema=pa.schema(fields))

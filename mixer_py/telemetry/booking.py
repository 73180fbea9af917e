"""Books every row of a table: `mixer_rows_total{table,state,reason}`.

received + adopted = written + dropped + left + rows in the queue + rows in the spool, whenever nothing is moving.
`left` and `adopted` are the same rows, which one process left in its spool and another found there. `spooled` stands
apart: it counts rows on their way through the disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from mixer_py.instruments import Gauge, Registry

ROWS: Final = "mixer_rows_total"
ROWS_HELP: Final = "Rows by table and what became of them."
GATHERED_ROWS: Final = "mixer_gathered_rows"
"""The gauge of what is to become rows, and is not received yet: with it who survives a killed process books that."""
SPOOL_ROWS: Final = "mixer_spool_rows"
"""The gauge of rows on disk, which belongs to the sum above."""

INVALID: Final = "invalid"
"""Reason of rows that no sink will ever take."""
MALFORMED: Final = "malformed"
"""Reason of what could not be read, and became no row."""
QUEUE_FULL: Final = "queue_full"
"""Reason of the oldest rows in memory, dropped for want of room there."""
SHUTDOWN: Final = "shutdown"
"""Reason of rows that could not be written before the process ended."""
SPOOL_FULL: Final = "spool_full"
"""Reason of the oldest rows, dropped for want of room on disk."""
SPOOL_DAMAGED: Final = "spool_damaged"
"""Reason of rows whose checksum is wrong."""
LEFT: Final = "left"
"""State of rows that a process had in its spool when it ended; only who survives it can book them."""
KILLED: Final = "killed"
"""Reason of rows that a killed process held; only who survives it can book them."""
SAMPLED: Final = "sampled"
"""Reason of allows that `decision_log.sample` leaves out."""
POLICY: Final = "policy"
"""Reason of decisions that `system.log.drop` leaves out."""
LOG_FULL: Final = "log_full"
"""Reason of decisions for which there was no room, with `when_full` other than `drop`."""

_OF_ALL: Final = (INVALID, MALFORMED, QUEUE_FULL, SHUTDOWN, SPOOL_FULL, SPOOL_DAMAGED, KILLED)
REASONS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({
    "requests": _OF_ALL,
    "connections": _OF_ALL,
    "decisions": (*_OF_ALL, SAMPLED, POLICY, LOG_FULL),
})  # fmt: skip
"""For each table why rows of it may be dropped."""


def rows_on_disk(registry: Registry, table: str) -> Gauge:
    """The gauge of a table's rows that wait on disk."""
    return registry.gauge(SPOOL_ROWS, "Rows that wait on disk to be written.", ("table",)).labels(table)


def gathered_rows(registry: Registry, table: str) -> Gauge:
    """The gauge of what is to become rows of a table."""
    return registry.gauge(GATHERED_ROWS, "Decisions that are being made into rows.", ("table",)).labels(table)


class Booking:
    """The books of one table."""

    def __init__(self, table: str, registry: Registry) -> None:
        self._table = table
        self._books = registry.counter(ROWS, ROWS_HELP, ("table", "state", "reason"))
        self._received = self._books.labels(table, "received", "")
        self._written = self._books.labels(table, "written", "")
        self._spooled = self._books.labels(table, "spooled", "")
        self._adopted = self._books.labels(table, "adopted", "")
        for reason in REASONS[table]:  # Prometheus does not see the first of what it has not seen at 0
            self._books.labels(table, "dropped", reason)

    def received(self, rows: int) -> None:
        """Rows that were taken."""
        self._received.add(rows)

    def written(self, rows: int) -> None:
        """Rows that are kept."""
        self._written.add(rows)

    def spooled(self, rows: int) -> None:
        """Rows that were put on disk to wait there."""
        self._spooled.add(rows)

    def adopted(self, rows: int) -> None:
        """Rows in the spool that another process of this mixer had received before it ended."""
        self._adopted.add(rows)

    def dropped(self, rows: int, reason: str) -> None:
        """Rows that are lost; looked up when it happens, for it seldom does."""
        if rows:
            self._books.labels(self._table, "dropped", reason).add(rows)

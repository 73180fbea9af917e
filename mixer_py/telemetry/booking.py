"""Books every row of a table: `mixer_rows_total{table,state,reason}`.

received + adopted = written + dropped + rows in the queue + rows in the spool, whenever nothing is moving. `spooled`
stands apart: it counts rows on their way through the disk.
"""

from __future__ import annotations

from typing import Final

from mixer_py.instruments import Gauge, Registry

ROWS: Final = "mixer_rows_total"
ROWS_HELP: Final = "Rows by table and what became of them."
SPOOL_ROWS: Final = "mixer_spool_rows"
"""The gauge of rows on disk, which belongs to the sum above."""


def rows_on_disk(registry: Registry, table: str) -> Gauge:
    """The gauge of a table's rows that wait on disk."""
    return registry.gauge(SPOOL_ROWS, "Rows that wait on disk to be written.", ("table",)).labels(table)


class Booking:
    """The books of one table."""

    def __init__(self, table: str, registry: Registry) -> None:
        self._table = table
        self._books = registry.counter(ROWS, ROWS_HELP, ("table", "state", "reason"))
        self._received = self._books.labels(table, "received", "")
        self._written = self._books.labels(table, "written", "")
        self._spooled = self._books.labels(table, "spooled", "")
        self._adopted = self._books.labels(table, "adopted", "")

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

"""Where blocks of rows are written, and read back: a ClickHouse server, or the store process with chDB."""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa


class Sink(Protocol):
    """Keeps blocks of rows."""

    async def write(self, table: str, batch: pa.RecordBatch, token: str) -> None:
        """Writes one block; when it returns, the block is kept.

        Args:
            table: `requests` or `decisions`.
            batch: exactly the table's columns.
            token: names the block; a block that is written again with its token is kept once.

        Raises:
            SinkError: it may not have been written; write it again with the same token.
        """

    async def close(self) -> None:
        """Lets go of connections."""

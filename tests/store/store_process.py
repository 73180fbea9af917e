"""A real store process, started as the supervisor starts it, and rows for it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from mixer_py.runtime.child import Child, ChildProgram
from mixer_py.telemetry.decision_columns import DECISIONS
from mixer_py.telemetry.store import QueryLimits, StoreClient

PATIENCE = 60.0
LIMITS = QueryLimits()
_NOON = 1_790_000_000_000_000_000


def rows(count: int, name: str = "row") -> pa.RecordBatch:
    """Decisions whose ids begin with `name`."""
    values: dict[str, Sequence[object]] = {
        "timestamp": range(_NOON, _NOON + count),
        "decision_id": [f"{name}-{number}" for number in range(count)],
        "request_id": [hashlib.sha256(f"{name}-{number}".encode()).hexdigest() for number in range(count)],
    }
    return pa.RecordBatch.from_arrays(
        [
            pa.array(values.get(column.name, [column.kind.default] * count), type=column.kind.arrow)
            for column in DECISIONS.columns
        ],
        names=list(DECISIONS.names),
    )


class StoreProcess:
    """One store process at a time over one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.directory = folder / "chdb"
        self.socket = folder / "s"
        self.client = StoreClient(self.socket, write_timeout=PATIENCE)
        self.children: list[Child] = []

    @property
    def child(self) -> Child:
        return self.children[-1]

    async def start(self, *arguments: str, socket: Path | None = None) -> dict[str, Any]:
        """Starts another process; what it answered."""
        program = ChildProgram(
            "store",
            "mixer_py.runtime.store",
            (
                "--directory",
                str(self.directory),
                "--database",
                "mesh",
                "--socket",
                str(socket or self.socket),
                *arguments,
            ),
        )
        child = await Child.start(program, self.folder)
        self.children.append(child)
        await child.control.send({"command": "start"})
        answer = await asyncio.wait_for(child.control.receive(), PATIENCE)
        assert answer is not None, "the store ended before it answered"
        return dict(answer)

    async def kill(self) -> None:
        self.child.process.kill()
        await self.child.exited()

    async def ended(self) -> int:
        return await asyncio.wait_for(self.child.exited(), PATIENCE)

    async def stop(self) -> int:
        return await self.child.end(PATIENCE)

    async def ask(self, sql: str, limits: QueryLimits = LIMITS) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (await self.client.query(sql, limits)).splitlines()]

    async def count(self, name: str) -> tuple[int, int]:
        """Rows of a batch that the store holds, and how many of them differ."""
        found = await self.ask(
            "SELECT count() AS rows, uniqExact(decision_id) AS ids FROM decisions "
            f"WHERE startsWith(decision_id, '{name}-')"
        )
        return found[0]["rows"], found[0]["ids"]

    def errors(self, reason: str) -> float:
        """What the newest process counted."""
        wanted = (("reason", reason),)
        return sum(
            values[0]
            for series, values in self.child.reader.read()
            if series.name == "mixer_store_errors_total" and series.labels == wanted
        )

    async def close(self) -> None:
        await self.client.close()
        for child in self.children:
            if child.process.returncode is None:
                child.process.send_signal(signal.SIGKILL)
            await child.exited()
            child.forget()

    async def until_running(self, beginning: str) -> None:
        """Waits until a statement that begins so runs."""
        sql = f"SELECT 1 FROM system.processes WHERE startsWith(query, '{beginning}')"
        async with asyncio.timeout(PATIENCE):
            while not await self.ask(sql):
                pass

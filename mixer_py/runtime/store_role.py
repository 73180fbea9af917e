"""The store process as the supervisor sees it: started when rows are kept by chDB, and kept running."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mixer_py.errors import ProcessError
from mixer_py.instruments import Clock, Registry
from mixer_py.runtime.child import Child, ChildProgram
from mixer_py.runtime.metrics import ProcessMetrics
from mixer_py.runtime.role import Role
from mixer_py.runtime.workers import ask
from mixer_py.telemetry.settings import EmbeddedTarget, TelemetrySettings


class StoreRole:
    """The one store of a mixer."""

    def __init__(
        self, target: EmbeddedTarget, folder: Path, metrics: ProcessMetrics, registry: Registry, clock: Clock
    ) -> None:
        self.socket = folder / "store.sock"
        arguments = ("--directory", str(target.directory), "--database", target.database, "--socket", str(self.socket))
        program = ChildProgram("store", "mixer_py.runtime.store", arguments)
        self._role = Role(program, folder, metrics, registry, clock, welcome=_welcome)
        self._watching: asyncio.Task[None] | None = None

    @classmethod
    def when_embedded(
        cls, settings: TelemetrySettings, folder: Path, metrics: ProcessMetrics, registry: Registry, clock: Clock
    ) -> StoreRole | None:
        """The role, when the settings keep rows in a folder."""
        target = settings.clickhouse.target if settings.clickhouse else None
        return cls(target, folder, metrics, registry, clock) if isinstance(target, EmbeddedTarget) else None

    async def start(self) -> None:
        """Starts the store and waits until it answers; from now on it is replaced when it ends.

        Raises:
            ConfigurationError: its folder cannot be used.
            ProcessError: it does not start.
        """
        await self._role.start()
        self._watching = asyncio.create_task(self._role.run())

    async def stop(self, grace: float) -> None:
        """Ends it, after its last block is written."""
        await self._role.stop(grace)
        if self._watching is not None:
            await self._watching


async def _welcome(child: Child) -> None:
    answer = await ask(child, {"command": "start"})
    if answer["event"] != "listening":
        raise ProcessError(f"the store answered {answer['event']!r} to its start")

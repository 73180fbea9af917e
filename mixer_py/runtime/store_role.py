"""The store process as the supervisor sees it: started when rows are kept by chDB, and kept running."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from mixer_py.config.configuration import Configuration
from mixer_py.config.log import LogSettings
from mixer_py.errors import ProcessError
from mixer_py.instruments import Clock, Registry
from mixer_py.runtime.child import Child, ChildProgram, ask
from mixer_py.runtime.control import Message
from mixer_py.runtime.metrics import ProcessMetrics
from mixer_py.runtime.role import Role
from mixer_py.telemetry.settings import EmbeddedTarget


class StoreRole:
    """The one store of a mixer."""

    def __init__(
        self,
        target: EmbeddedTarget,
        retention: Mapping[str, int],
        log: LogSettings,
        max_hang: float,
        folder: Path,
        metrics: ProcessMetrics,
        registry: Registry,
        clock: Clock,
    ) -> None:
        self.socket = folder / "store.sock"
        arguments = ("--directory", str(target.directory), "--database", target.database, "--socket", str(self.socket))
        program = ChildProgram("store", "mixer_py.runtime.store", arguments)
        self._role = Role(program, folder, metrics, registry, clock, welcome=self._welcome, max_hang=max_hang)
        self._retention = dict(retention)
        self._log = log
        self._watching: asyncio.Task[None] | None = None

    @classmethod
    def when_embedded(
        cls, configuration: Configuration, folder: Path, metrics: ProcessMetrics, registry: Registry, clock: Clock
    ) -> StoreRole | None:
        """The role, when the settings keep rows in a folder."""
        clickhouse = configuration.telemetry.clickhouse
        target = clickhouse.target if clickhouse else None
        if not isinstance(target, EmbeddedTarget):
            return None
        return cls(
            target,
            configuration.telemetry.layout.retention,
            configuration.log,
            configuration.server.max_hang,
            folder,
            metrics,
            registry,
            clock,
        )

    async def start(self) -> None:
        """Starts the store and waits until it answers; from now on it is replaced when it ends.

        Raises:
            ConfigurationError: its folder cannot be used.
            ProcessError: it does not start.
        """
        await self._role.start()
        self._watching = asyncio.create_task(self._role.run())

    async def tell(self, message: Message) -> None:
        """Tells it what needs no answer."""
        await self._role.tell(message)

    async def stop(self, grace: float) -> None:
        """Ends it, after its last block is written."""
        await self._role.stop(grace)
        if self._watching is not None:
            await self._watching

    async def _welcome(self, child: Child) -> None:
        answer = await ask(child, {"command": "start", "log": self._log.model_dump(), "retention": self._retention})
        if answer["event"] != "listening":
            raise ProcessError(f"the store answered {answer['event']!r} to its start")

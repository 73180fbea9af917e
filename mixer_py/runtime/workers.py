"""The workers as the supervisor sees them: orders out, answers in, one revision over all."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mixer_py.config.configuration import Configuration
from mixer_py.errors import ConfigurationError, ProcessError
from mixer_py.instruments import Clock, Registry
from mixer_py.runtime.child import Child, ChildProgram
from mixer_py.runtime.control import Message, faults_of
from mixer_py.runtime.metrics import ProcessMetrics
from mixer_py.runtime.orders import WorkerOrder, write_private
from mixer_py.runtime.role import Role

_ANSWER_SECONDS = 600.0
"""How long a worker may take to answer: as long as it may load. That it still lives, its heartbeat tells."""

_READY_SECONDS = 20.0
"""How long a reload waits for a worker that is just being replaced."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """What the workers decide with.

    Attributes:
        configuration: the settings in force.
        revision: of the snapshot.
        description: for `/policies` and `/rlconfig`.
        sources: file of what was read to build it, for workers that start later.
    """

    configuration: Configuration
    revision: str = ""
    description: Mapping[str, object] = field(default_factory=dict)
    sources: Path | None = None


class Workers:
    """Every worker of a mixer."""

    def __init__(
        self,
        configuration: Configuration,
        store_socket: Path | None,
        folder: Path,
        metrics: ProcessMetrics,
        registry: Registry,
        clock: Clock,
    ) -> None:
        self.deployed = Deployed(configuration)
        self._store_socket = store_socket
        self._folder = folder
        self._turn = asyncio.Lock()
        program = ChildProgram("worker", "mixer_py.runtime.worker")
        self._roles = [
            Role(
                program, folder, metrics, registry, clock, welcome=self._welcome,
                max_stall=lambda: self.deployed.configuration.policy.max_stall,
            )
            for _ in range(configuration.server.workers)
        ]  # fmt: skip
        self._watching: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        """Every worker listens."""
        return all(role.ready for role in self._roles)

    async def start(self) -> None:
        """Starts all; from now on each is replaced when it ends.

        Raises:
            ConfigurationError: policies or rules are faulty.
            ProcessError: a worker cannot listen.
        """
        for role in self._roles:  # in turn: the first reads the files, the others use what it read
            await role.start()
        self._watching = [asyncio.create_task(role.run()) for role in self._roles]

    async def reload(self, configuration: Configuration) -> None:
        """Lets every worker build the new snapshot beside the old one, then all of them use it, or none.

        Raises:
            ConfigurationError: policies or rules are faulty; the old snapshot stays.
            ProcessError: a worker ended meanwhile; the old snapshot stays.
        """
        await asyncio.gather(*(role.wait_ready(_READY_SECONDS) for role in self._roles))
        async with self._turn:
            children = [role.child for role in self._roles if role.ready and role.child is not None]
            if len(children) < len(self._roles):
                raise ProcessError("a worker is being replaced; the next change or SIGHUP tries again")
            deployed: Deployed | None = None
            try:
                for child in children:
                    deployed = await self._prepare(child, "prepare", deployed or Deployed(configuration))
            except (ConfigurationError, ProcessError):
                await asyncio.gather(
                    *(ask(child, {"command": "discard"}) for child in children), return_exceptions=True
                )
                raise
            if deployed is None:
                return
            await asyncio.gather(*(ask(child, {"command": "activate"}) for child in children))
            self._replace(deployed)

    async def stop(self, grace: float) -> bool:
        """Drains and ends all.

        Returns:
            Whether every one ended by itself within `grace` seconds.
        """
        codes = await asyncio.gather(*(role.stop(grace) for role in self._roles))
        await asyncio.gather(*self._watching)
        return all(code in {0, None} for code in codes)

    async def _welcome(self, child: Child) -> None:
        """Makes a new worker listen with what is deployed."""
        async with self._turn:
            self._replace(await self._prepare(child, "start", self.deployed))

    async def _prepare(self, child: Child, command: str, wanted: Deployed) -> Deployed:
        order = write_private(
            WorkerOrder(wanted.configuration, self._store_socket, wanted.sources), self._folder, "order"
        )
        try:
            answer = await ask(child, {"command": command, "order": str(order)})
        finally:
            order.unlink()
        description = answer["description"]
        if not isinstance(description, dict):
            raise ProcessError("the worker described nothing")
        return Deployed(wanted.configuration, str(answer["revision"]), description, Path(str(answer["sources"])))

    def _replace(self, deployed: Deployed) -> None:
        """Keeps what is deployed now; the sources of what was before are removed."""
        before, self.deployed = self.deployed.sources, deployed
        if before is not None and before != deployed.sources:
            before.unlink(missing_ok=True)


async def ask(child: Child, message: Message) -> Message:
    """Sends a command and waits for its answer.

    Raises:
        ConfigurationError: it refused, with its faults.
        ProcessError: it ended instead.
    """
    await child.control.send(message)
    try:
        answer = await asyncio.wait_for(child.control.receive(), _ANSWER_SECONDS)
    except TimeoutError:
        raise ProcessError(f"the {child.program.name} did not answer {message['command']!r}") from None
    if answer is None:
        raise ProcessError(f"the {child.program.name} ended instead of answering {message['command']!r}")
    if answer["event"] == "refused":
        raise ConfigurationError(faults_of(answer))
    return answer

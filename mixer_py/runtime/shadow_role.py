"""The candidate of `policy.shadow` as the supervisor sees it: a process of its own, whose faults are nobody else's.

Whatever goes wrong with a candidate is logged, counted and shown; it never fails a start or a reload of the policies in
force, and what was good before stays. Not for: handing it checks, which workers do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import structlog

from mixer_py.config.configuration import Configuration
from mixer_py.config.log import LogSettings
from mixer_py.config.watching import local_paths
from mixer_py.errors import ConfigurationError, Fault, ProcessError
from mixer_py.instruments import Clock, Registry
from mixer_py.policy.candidate import candidate_settings
from mixer_py.policy.settings import PolicySettings
from mixer_py.runtime.child import Child, ChildProgram, ask
from mixer_py.runtime.control import Message
from mixer_py.runtime.fetching import Fetching
from mixer_py.runtime.metrics import ProcessMetrics
from mixer_py.runtime.orders import ShadowOrder, shadow_socket, write_private
from mixer_py.runtime.role import Role

_LOAD_SECONDS: Final = 120.0
_AGAIN_SECONDS: Final = 5.0
"""After its process was lost while it started: a fault in what it holds would be told by that process."""
_LEAVE_SECONDS: Final = 3.0
"""What a process has to answer what it was asked, after SIGTERM."""


@dataclass(frozen=True, slots=True)
class _Deployed:
    """A candidate.

    Attributes:
        policy: the settings by which it decides.
        log: how its process logs.
        fetched: files of what was fetched, by the keys of their sources.
        bundle: file of what was read, for a process that replaces another; None before.
        revision: of the policy.
        description: for `/policies`.
    """

    policy: PolicySettings
    log: LogSettings
    fetched: Mapping[str, Path]
    bundle: Path | None = None
    revision: str = ""
    description: Mapping[str, object] = field(default_factory=dict)


class ShadowRole:
    """The candidate's process, while the configuration has a candidate.

    Attributes:
        faults: what is wrong with the candidate that the configuration names.
    """

    def __init__(self, folder: Path, metrics: ProcessMetrics, registry: Registry, clock: Clock) -> None:
        self._folder = folder
        self._metrics = metrics
        self._registry = registry
        self._clock = clock
        self._reloads = registry.counter(
            "mixer_shadow_reloads_total", "Candidates that were put in place, by outcome.", ("outcome",)
        )
        self._log = structlog.get_logger("runtime").bind(child="shadow")
        self._configuration = Configuration()
        self._asked = False
        self._changed = asyncio.Event()
        self._fetching = self._make_fetching()
        self._role: Role | None = None
        self._standing: Message | None = None
        self._watching: asyncio.Task[None] | None = None
        self._deployed: _Deployed | None = None
        self.faults: Sequence[Fault] = ()

    def want(self, configuration: Configuration) -> None:
        """Puts the candidate of a configuration in place, as soon as may be; one that is there already stays."""
        before, self._configuration = self._configuration, configuration
        if self.faults or candidate_settings(before.policy) != candidate_settings(configuration.policy):
            self.read_again()

    def read_again(self) -> None:
        """Puts what the candidate's files hold by now in place, as soon as may be."""
        self._asked = True
        self._changed.set()

    def notice(self, changed: AbstractSet[Path]) -> bool:
        """Reads again when files of the candidate are among those that changed.

        Returns:
            Whether none but its own are.
        """
        policy = self._configuration.policy
        own = set(local_paths(policy.shadow.bundles)) if policy.shadow is not None else set()
        if own & changed:
            self.read_again()
        return changed <= own - set(local_paths(policy.bundles))

    async def run(self) -> None:
        """Does what was wanted, until it is cancelled; what a lost process prevented, again after a while."""
        pause = None
        while True:
            try:
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            except TimeoutError:
                self._asked = True
            self._changed.clear()
            pause = None
            try:
                await self._follow()
            except ConfigurationError as error:
                self.faults = error.faults
                self._reloads.labels("refused").add()
                self._log.error(
                    "candidate refused",
                    way_out="mend policy.shadow's bundles; it is tried again when they change",
                    faults=[str(fault) for fault in error.faults],
                )
            except ProcessError as error:
                pause = _AGAIN_SECONDS
                self.faults = (Fault(str(error), field="policy.shadow"),)
                self._reloads.labels("failed").add()
                self._log.error(
                    "candidate failed to start",
                    way_out="it is tried again; policies in force are not touched",
                    error=str(error),
                )
            except Exception as error:  # noqa: BLE001 (nothing about a candidate may end the supervisor)
                self.faults = (Fault(str(error) or type(error).__name__, field="policy.shadow"),)
                self._reloads.labels("failed").add()
                self._log.error(
                    "candidate failed to start",
                    way_out="report it with this line; policies in force are not touched",
                    error=repr(error),
                )

    async def tell(self, message: Message) -> None:
        """Tells it, and those that come later, what needs no answer."""
        self._standing = message
        if self._role is not None:
            await self._role.tell(message)

    async def stop(self) -> None:
        """Ends its process, after it has answered what it was asked."""
        await self._fetching.stop()
        role, watching = self._role, self._watching
        self._role = self._watching = None
        if role is not None:
            await role.stop(_LEAVE_SECONDS)
        if watching is not None:
            await watching

    def describe(self) -> Mapping[str, object] | None:
        """What decides as candidate, for `/policies`; None where the configuration names none."""
        shadow = self._configuration.policy.shadow
        if shadow is None:
            return None
        deployed = self._deployed
        return {
            "share": shadow.share,
            "running": self._role is not None and self._role.ready,
            "faults": [str(fault) for fault in self.faults],
            "fetched": self._fetching.describe(),
            **({} if deployed is None else deployed.description),
            "revision": None if deployed is None else deployed.revision,
        }

    async def _follow(self) -> None:
        """Puts in place what is wanted now.

        Raises:
            MixerError: it cannot be; what was there stays.
        """
        asked, self._asked = self._asked, False
        configuration = self._configuration
        settings = candidate_settings(configuration.policy)
        if settings is None:
            await self.stop()
            self._fetching = self._make_fetching()
            self._keep(None)
            self.faults = ()
            return

        async def build(fetched: Mapping[str, Path]) -> None:
            await self._deploy(_Deployed(settings, configuration.log, fetched))

        if await self._fetching.reload(settings, build, again=asked):
            self.faults = ()

    def _make_fetching(self) -> Fetching:
        return Fetching(self._folder, self._registry, self._clock, self._changed.set)

    async def _deploy(self, wanted: _Deployed) -> None:
        if self._role is None:
            await self._begin(wanted)
        else:
            await self._succeed(self._role, wanted)
        if self._deployed is not None:
            self._log.info("candidate in place", revision=self._deployed.revision)
        self._reloads.labels("activated").add()

    async def _begin(self, wanted: _Deployed) -> None:
        """Starts the first process of a candidate; from now on it is replaced when it ends."""
        program = ChildProgram("shadow", "mixer_py.runtime.shadow")
        role = Role(
            program, self._folder, self._metrics, self._registry, self._clock,
            welcome=self._welcome, max_stall=lambda: self._configuration.policy.max_stall,
            max_hang=self._configuration.server.max_hang,
        )  # fmt: skip
        self._deployed = wanted
        try:
            await role.start()
        except BaseException:
            self._deployed = None
            raise
        self._role = role
        if self._standing is not None:
            await role.tell(self._standing)
        self._watching = asyncio.create_task(role.run())

    async def _succeed(self, role: Role, wanted: _Deployed) -> None:
        """Loads the candidate in a fresh process, which then takes the place of the one that runs."""
        child = await role.start_successor()
        try:
            deployed = await self._order(child, wanted)
        except BaseException:
            await role.dismiss(child)
            raise
        self._keep(deployed)
        if role.ready:
            role.succeed(child, 0.0, _LEAVE_SECONDS)
        else:  # the one that runs has just ended; its replacement begins with what was read
            await role.dismiss(child)

    async def _welcome(self, child: Child) -> None:
        """Makes a new process listen with what is deployed."""
        if self._deployed is not None:
            self._keep(await self._order(child, self._deployed))

    async def _order(self, child: Child, wanted: _Deployed) -> _Deployed:
        work = ShadowOrder(wanted.policy, wanted.log, shadow_socket(self._folder), wanted.bundle, wanted.fetched)
        order = write_private(work, self._folder, "order")
        try:
            async with asyncio.timeout(_LOAD_SECONDS):
                answer = await ask(child, {"command": "start", "order": str(order)})
        except TimeoutError:
            raise ProcessError(f"the candidate was not loaded within {_LOAD_SECONDS:g} s") from None
        finally:
            order.unlink()
        description = answer["description"]
        if not isinstance(description, dict):
            raise ProcessError("the candidate's process described nothing")
        bundle = Path(str(answer["bundle"]))
        return replace(wanted, bundle=bundle, revision=str(answer["revision"]), description=description)

    def _keep(self, deployed: _Deployed | None) -> None:
        """Keeps what is deployed now; what was read for the one before is removed."""
        before, self._deployed = self._deployed, deployed
        file = None if before is None else before.bundle
        if file is not None and (deployed is None or file != deployed.bundle):
            file.unlink(missing_ok=True)

"""The workers as the supervisor sees them: orders out, answers in, one revision over all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog

from mixer_py.config.configuration import Configuration
from mixer_py.config.server import ServerSettings
from mixer_py.credentials import Credentials
from mixer_py.errors import ConfigurationError, ProcessError
from mixer_py.instruments import Clock, Registry
from mixer_py.runtime.child import Child, ChildProgram, ask
from mixer_py.runtime.control import Message
from mixer_py.runtime.data_plane import DataPlane
from mixer_py.runtime.deployed import Deployed
from mixer_py.runtime.memory import free_bytes, resident_bytes
from mixer_py.runtime.metrics import ProcessMetrics
from mixer_py.runtime.orders import TlsOrder, WorkerOrder, write_private
from mixer_py.runtime.role import TAKEN, Role
from mixer_py.runtime.succession import empty_bequest
from mixer_py.runtime.weight import is_heavy

_READY_SECONDS = 20.0
"""How long a reload waits for a worker that is just being replaced."""
_LOOK_SECONDS = 2.0
"""How long a person who looks at a counter waits for a reload."""
_FEW_RETIRED = 3
"""Workers of a role that were succeeded and have connections left, as many as which may always stay."""
_SPARE_MEMORY = 4.0
"""So many times what the workers have must be free where more than these are to stay."""
_ROOM_SECONDS = 0.5
"""How often a large revision looks whether there is room for it."""


class Workers:
    """Every worker of a mixer."""

    def __init__(
        self,
        configuration: Configuration,
        credentials: Mapping[str, Credentials],
        store_socket: Path | None,
        folder: Path,
        metrics: ProcessMetrics,
        registry: Registry,
        clock: Clock,
        data_plane: DataPlane | None = None,
    ) -> None:
        self.deployed = Deployed(configuration)
        self._credentials = credentials
        self._store_socket = store_socket
        self._folder = folder
        self._changing = asyncio.Lock()
        """Held while what all workers have is changed, however long that takes."""
        self._turn = asyncio.Lock()
        """Held while those that answer are asked, or one is put among them; not while others are built beside them."""
        self._log = structlog.get_logger("runtime")
        arguments = []
        if data_plane is not None:  # as it is now: what replaces a worker must not fail by what was written since
            arguments = ["--data-plane", str(write_private(data_plane, folder, "data-plane"))]
        program = ChildProgram("worker", worker_module(configuration.server), arguments)
        self._roles = [
            Role(
                program, folder, metrics, registry, clock, welcome=partial(self._welcome, index),
                max_stall=lambda: self.deployed.configuration.policy.max_stall,
                max_hang=configuration.server.max_hang,
            )
            for index in range(configuration.server.workers)
        ]  # fmt: skip
        self._watching: list[asyncio.Task[None]] = []
        self._handing_over: asyncio.Future[list[None]] | None = None
        self._all_built: asyncio.Barrier | None = None
        """While all start: they listen together, or the first would get the connections of everybody who waits."""

    @property
    def ready(self) -> bool:
        """Every worker listens."""
        return all(role.ready for role in self._roles)

    async def start(self, fetched: Mapping[str, Path]) -> None:
        """Starts all; from now on each is replaced when it ends.

        Args:
            fetched: files of what was fetched, by the keys of their sources.

        Raises:
            ConfigurationError: policies or rules are faulty.
            ProcessError: a worker cannot listen.
        """
        before, self.deployed = self.deployed, replace(self.deployed, fetched=fetched)
        self._all_built = asyncio.Barrier(len(self._roles))
        started = await asyncio.gather(*(role.start() for role in self._roles), return_exceptions=True)
        self._all_built = None
        # A broken barrier only says that another worker failed.
        failures = [one for one in started if one is not None and not isinstance(one, asyncio.BrokenBarrierError)]
        if failures:
            self._replace(before)
            raise failures[0]
        self._watching = [asyncio.create_task(role.run()) for role in self._roles]

    async def reload(self, configuration: Configuration, fetched: Mapping[str, Path]) -> None:
        """Lets every worker build the new snapshot beside the old one, then all of them use it, or none.

        What would keep a worker from answering for too long is built in fresh workers, which then take over. Where too
        many from before have connections left, and memory is short, it waits until some have ended: none is ended
        before its time, for gRPC cancels what reaches a server that stops.

        Raises:
            ConfigurationError: policies or rules are faulty; the old snapshot stays.
            ProcessError: a worker ended meanwhile; the old snapshot stays.
        """
        if is_heavy(configuration, self.deployed.cost, fetched.values()):
            await self._wait_for_room()
        await asyncio.gather(*(role.wait_ready(_READY_SECONDS) for role in self._roles))
        async with self._changing:
            wanted = Deployed(configuration, fetched=fetched)
            if is_heavy(configuration, self.deployed.cost, fetched.values()):
                self._all_ready()
                await self._take_over(wanted)
            else:
                async with self._turn:
                    await self._build_beside(self._all_ready(), wanted)

    def _all_ready(self) -> Sequence[Child]:
        """The workers that answer.

        Raises:
            ProcessError: one is missing.
        """
        children = self._answering()
        if len(children) < len(self._roles):
            raise ProcessError("a worker is being replaced; the next change or SIGHUP tries again")
        return children

    def _answering(self) -> Sequence[Child]:
        return [role.child for role in self._roles if role.ready and role.child is not None]

    def _retired(self) -> Sequence[Child]:
        return [child for role in self._roles for child in role.retired]

    async def _wait_for_room(self) -> None:
        if self._has_room():
            return
        self._log.warning(
            "a large revision waits until a worker from before has ended: memory is short",
            way_out="give mixer more memory, or change large policies and rules less often",
        )
        while not self._has_room():  # noqa: ASYNC110 (memory tells nobody when it is free)
            await asyncio.sleep(_ROOM_SECONDS)

    def _has_room(self) -> bool:
        """Whether one more worker of each role may stay beside those that were succeeded before."""
        if all(len(role.retired) < _FEW_RETIRED for role in self._roles):
            return True
        taken = sum(resident_bytes(role.child.pid) for role in self._roles if role.child is not None)
        return free_bytes() > _SPARE_MEMORY * taken

    async def renew_tls(self, server: ServerSettings, credentials: Mapping[str, Credentials]) -> bool:
        """Lets every worker show these certificates from now on, and let in whom these settings name.

        Those that only have old connections left as well: who calls there is judged there.

        Returns:
            Whether all of them do.
        """
        async with self._changing, self._turn:
            self._credentials = credentials
            order = write_private(TlsOrder(server, credentials), self._folder, "order")
            children = [child for role in self._roles for child in (role.child, *role.retired) if child is not None]
            try:
                message = {"command": "renew_tls", "order": str(order)}
                told = await asyncio.gather(*(ask(child, message) for child in children), return_exceptions=True)
            finally:
                order.unlink()
        failures = [failure for failure in told if isinstance(failure, BaseException)]
        for failure in failures:  # what replaces it begins with these
            self._log.error(
                "a worker was not given its certificates; it shows those before",
                way_out="nothing, where it is being replaced; else make room in mixer's folder: it is tried again",
                error=str(failure),
            )
        return not failures

    async def _build_beside(self, children: Sequence[Child], deployed: Deployed) -> None:
        try:
            for child in children:
                deployed, _ = await self._order(child, "prepare", deployed)
        except (ConfigurationError, ProcessError):
            await asyncio.gather(*(ask(child, {"command": "discard"}) for child in children), return_exceptions=True)
            raise
        await asyncio.gather(*(ask(child, {"command": "activate"}) for child in children))
        await self._let_record(self._retired(), deployed)
        self._replace(deployed)

    async def _take_over(self, deployed: Deployed) -> None:
        """Builds in fresh workers; when all are ready each takes over from the one in its role.

        Who answers may die meanwhile: what replaces it begins with the revision before, and answers as soon as it can.
        """
        successors: list[tuple[Role, Child]] = []
        async with _dismissed_when_it_fails(successors):
            for role in self._roles:
                successor = await role.start_successor()
                successors.append((role, successor))
                deployed, _ = await self._order(successor, "build", deployed)
                if deployed.decides_as(self.deployed):
                    break  # as the others would
            if deployed.revision != self.deployed.revision:  # else nothing waits for what was built
                await asyncio.gather(*(role.give_way() for role in self._roles))
            await self._turn.acquire()
        try:
            await self._put_in(successors, deployed)
        finally:
            self._turn.release()

    async def _put_in(self, successors: Sequence[tuple[Role, Child]], deployed: Deployed) -> None:
        """Lets workers that were built listen and take over, unless that would change nothing."""
        addresses: dict[Role, str] = {}
        async with _dismissed_when_it_fails(successors):
            if deployed.decides_as(self.deployed):  # a change that came while it was read, or none in what counts
                await _dismiss(successors)
                self._replace(deployed)
                return
            for role, successor in successors:
                answer = await self._pass_counters(role, "hand_over", "listen", successor)
                addresses[role] = str(answer["address"])
            await self._let_record([*self._answering(), *self._retired()], deployed)
        self._replace(deployed)
        self._handing_over = asyncio.gather(
            *(self._succeed(role, successor, addresses[role]) for role, successor in successors)
        )
        await asyncio.shield(self._handing_over)

    async def _let_record(self, children: Sequence[Child], deployed: Deployed) -> None:
        """What goes on coming to workers from before, in streams of logs, is masked and counted as it is wanted now."""
        order = write_private(deployed.configuration.telemetry, self._folder, "order")
        try:
            await self._tell_those_before(children, {"command": "record", "order": str(order)})
        finally:
            order.unlink()

    async def _succeed(self, role: Role, successor: Child, address: str) -> None:
        """Lets a worker's successor answer all calls; it stays until its connections have reached their age."""
        predecessor, stay = role.child, 0.0
        try:
            if predecessor is not None and role.ready:  # else it has died, and what replaces it waits for its turn
                stay = float(str((await ask(predecessor, {"command": "forward", "order": address}))["stay"]))
                await self._pass_counters(role, "hand_over_rest", "inherit", successor)
        except (ConfigurationError, ProcessError) as error:
            self._log.error(
                "a worker did not hand over all that it had counted",
                way_out="some limits begin anew; nothing to do",
                error=str(error),
            )
        server = self.deployed.configuration.server
        role.succeed(successor, stay, server.drain_timeout + server.flush_timeout)
        await self._redirect(role, address)

    async def _redirect(self, role: Role, address: str) -> None:
        """Tells the workers that a role had before where answers come from now."""
        await self._tell_those_before(role.retired, {"command": "forward", "order": address})

    async def _tell_those_before(self, children: Sequence[Child], message: Message) -> None:
        told = [ask(child, message) for child in children]
        for failure in await asyncio.gather(*told, return_exceptions=True):
            if isinstance(failure, BaseException):
                self._log.error(
                    "a worker with old connections is lost",
                    way_out="clients connect anew; runbook MixerWorkerReplaced when it happens again",
                    error=str(failure),
                )

    async def _pass_counters(self, role: Role, give: str, take: str, successor: Child) -> Message:
        """Hands on what the worker in a role has counted: nothing when it has died, for its counters died with it."""
        counters: object = None
        if role.child is not None and role.ready:
            try:
                handed = await ask(role.child, {"command": give, "order": str(self._folder)})
                counters = handed["counters"]
            except ProcessError as error:
                self._log.error(
                    "a worker ended before it handed over what it had counted",
                    way_out="some limits begin anew; runbook MixerWorkerReplaced when it happens again",
                    error=str(error),
                )
        return await ask(successor, {"command": take, "order": str(counters or empty_bequest(self._folder))})

    async def look(self, domain: str, descriptors: Sequence[Sequence[tuple[str, str]]]) -> object:
        """What stands in the counters of descriptors now, asked of one worker: several share their counters.

        Raises:
            ProcessError: no worker is ready, or a reload is going on.
            ConfigurationError: the worker cannot tell, as when the store is away.
        """
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await self._turn.acquire()
        except TimeoutError:
            raise ProcessError("the workers are being given something new; ask again when it is in force") from None
        # To its end, also when nobody waits for it any more: its answer must not be taken for that of the next command.
        return await asyncio.shield(asyncio.create_task(self._look(domain, descriptors)))

    async def _look(self, domain: str, descriptors: Sequence[Sequence[tuple[str, str]]]) -> object:
        try:
            child = next(iter(self._answering()), None)
            if child is None:
                raise ProcessError("no worker is ready")
            answer = await ask(child, {"command": "look", "domain": domain, "descriptors": descriptors})
            return answer["counters"]
        finally:
            self._turn.release()

    async def tell(self, message: Message) -> None:
        """Tells every worker what needs no answer."""
        for role in self._roles:
            await role.tell(message)

    async def stop(self, grace: float) -> bool:
        """Drains and ends all.

        Returns:
            Whether every one ended by itself within `grace` seconds.
        """
        if self._handing_over is not None:  # so that the worker that answers by now is one of those that are drained
            await asyncio.wait({self._handing_over}, timeout=grace)
        codes = await asyncio.gather(*(role.stop(grace) for role in self._roles))
        await asyncio.gather(*self._watching)
        return all(code in {0, None} for code in codes)

    async def _welcome(self, index: int, child: Child) -> None:
        """Makes a new worker listen with what is deployed."""
        if self._all_built is not None:
            await self._welcome_with_others(self._all_built, child)
            return
        async with self._turn:
            if self._roles[index].child is not child:
                raise ProcessError(TAKEN)
            deployed, answer = await self._order(child, "start", self.deployed)
            self._replace(deployed)
            await self._redirect(self._roles[index], str(answer["address"]))

    async def _welcome_with_others(self, all_built: asyncio.Barrier, child: Child) -> None:
        """The same when all start: the first to come reads the files, the others use what it read."""
        try:
            async with self._turn:
                deployed, _ = await self._order(child, "build", self.deployed)
                self._replace(deployed)
            await all_built.wait()
        except BaseException:
            await all_built.abort()
            raise
        await ask(child, {"command": "listen", "order": str(empty_bequest(self._folder))})

    async def _order(self, child: Child, command: str, wanted: Deployed) -> tuple[Deployed, Message]:
        """Lets a worker build what is wanted; what came of it, and the worker's answer."""
        work = WorkerOrder(wanted.configuration, self._store_socket, wanted.sources, wanted.fetched, self._credentials)
        order = write_private(work, self._folder, "order")
        try:
            answer = await ask(child, {"command": command, "order": str(order)})
        finally:
            order.unlink()
        description = answer["description"]
        if not isinstance(description, dict):
            raise ProcessError("the worker described nothing")
        sources, cost, revision = Path(str(answer["sources"])), float(str(answer["cost"])), str(answer["revision"])
        return Deployed(wanted.configuration, revision, description, sources, cost, wanted.fetched), answer

    def _replace(self, deployed: Deployed) -> None:
        """Keeps what is deployed now; the sources of what was before are removed."""
        before, self.deployed = self.deployed.sources, deployed
        if before is not None and before != deployed.sources:
            before.unlink(missing_ok=True)


@asynccontextmanager
async def _dismissed_when_it_fails(successors: Sequence[tuple[Role, Child]]) -> AsyncIterator[None]:
    """Ends those that were to take over when the block fails, also at the end of the mixer."""
    try:
        yield
    except BaseException:
        await _dismiss(successors)
        raise


async def _dismiss(successors: Sequence[tuple[Role, Child]]) -> None:
    await asyncio.gather(*(role.dismiss(successor) for role, successor in successors))


def worker_module(server: ServerSettings) -> str:
    """What a worker runs: where a listener has the transport `envoy`, one that becomes an Envoy with itself inside."""
    inside = any(listener.transport == "envoy" for listener in server.listeners)
    return "mixer_py.runtime.envoy_worker" if inside else "mixer_py.runtime.worker"

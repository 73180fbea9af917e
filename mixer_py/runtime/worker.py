"""The process that answers Envoy: one event loop, one immutable snapshot at a time.

Started by the supervisor as `python -m mixer_py.runtime.worker`; ends with it. It takes its orders over the control
channel: `start`, then any number of `prepare` followed by `activate` or `discard`. SIGTERM drains it. Where a listener
has the transport `envoy` the same worker runs inside an Envoy (`inside_envoy`), and what it listens at with grpcio too.

One that takes over gets `build` instead of `start`; then its predecessor gets `hand_over`, it gets `listen`, its
predecessor `forward` and `hand_over_rest`, and it gets `inherit`. From then on the predecessor lets it answer the
calls of the connections that are left.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from mixer_py.config.configuration import Configuration
from mixer_py.config.server import ListenerSettings
from mixer_py.credentials import Credentials
from mixer_py.errors import ConfigurationError, Fault, MixerError, ProcessError
from mixer_py.instruments import Registry, SystemClock, Table
from mixer_py.policy.policy import load_engine
from mixer_py.ratelimit.explaining.descriptors import WrittenEntry
from mixer_py.runtime import (
    arrow,  # noqa: F401 (before any row is handled)
    childhood,
)
from mixer_py.runtime.control import ControlChannel, Message, die_with_parent, refused
from mixer_py.runtime.envoy_listening import envoy_server, let_traffic_in
from mixer_py.runtime.garbage import settle
from mixer_py.runtime.health import watch_health
from mixer_py.runtime.leaving import drain, give_way
from mixer_py.runtime.logs import configure_logs
from mixer_py.runtime.orders import TlsOrder, WorkerOrder, read_private, write_private
from mixer_py.runtime.rooms import UNARY, Rooms
from mixer_py.runtime.snapshot import Snapshot, Sources, build, read
from mixer_py.runtime.succession import hand_on, hand_on_rest, inherit
from mixer_py.runtime.vital_signs import VitalSigns, wanted_seconds
from mixer_py.runtime.weight import HEAVY_CONNECTION_AGE, is_costly, oldest_age
from mixer_py.services.precedence import Precedence
from mixer_py.telemetry.settings import TelemetrySettings
from mixer_py.transports import (
    Admission,
    DataPlaneListeners,
    EnvoyHost,
    Forwarder,
    GrpcioServer,
    HandlerTable,
    ListenerTls,
    Server,
    ServerLimits,
)


class Worker:
    """One worker's life."""

    def __init__(self, control: ControlChannel, registry: Registry, host: EnvoyHost | None = None) -> None:
        """Prepares one.

        Args:
            control: brings its orders.
            registry: of everything that is counted.
            host: the Envoy around it; None without one.
        """
        self._control = control
        self._host = host
        self._registry = registry
        self._clock = SystemClock()
        self._vital_signs = VitalSigns(registry)
        self._servers: list[Server] = []
        self._data_plane: DataPlaneListeners | None = None
        self._tls: dict[str, ListenerTls] = {}
        self._credentials: Mapping[str, Credentials] = {}
        self._rooms: Rooms | None = None
        self._admission: Admission
        self._prepared: Snapshot | None = None
        self._configuration = Configuration()
        self._folder = Path()
        self._max_age = 0.0
        self._forwarder: Forwarder | None = None
        self._closing: asyncio.Task[None] | None = None
        self._giving_way: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._drained = False
        self._log = structlog.get_logger("runtime")

    async def run(self, stop: asyncio.Event) -> int:
        """Obeys until it is told to stop and has drained, or the supervisor is gone; the exit code."""
        beating = asyncio.create_task(self._vital_signs.beat_for_ever())
        stopping = asyncio.create_task(stop.wait())
        try:
            while not self._drained:
                receiving = asyncio.create_task(self._control.receive())
                await asyncio.wait({receiving, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not receiving.done():  # SIGTERM
                    receiving.cancel()
                    await self._drain()
                    break
                message = receiving.result()
                if message is None:  # the supervisor is gone, so nobody would ever end this process
                    await self._drain()
                    return 1
                await self._control.send(await self._answer(message))
        finally:
            beating.cancel()
            stopping.cancel()
            if self._watching is not None:
                self._watching.cancel()
        return 0

    async def _answer(self, message: Message) -> Message:
        """Obeys, or says why not."""
        # What these do leaves nothing to settle.
        aside = {"look": self._look, "renew_tls": self._renew_tls, "record": self._record}
        try:
            return await aside.get(str(message["command"]), self._obey)(message)
        except ConfigurationError as error:
            return refused(error.faults)
        except MixerError as error:
            return refused([Fault(str(error))])

    async def _obey(self, message: Message) -> Message:
        order = Path(str(message.get("order", "")))
        try:
            match message["command"]:
                case "start":
                    answer = await self._build_first(order) | await self._listen()
                case "build":
                    answer = await self._build_first(order)
                case ("hand_over" | "hand_over_rest") as command:
                    answer = await self._hand_over(order, rest=command == "hand_over_rest")
                case "listen":
                    answer = await self._inherit(order) | await self._listen()
                case "inherit":
                    answer = await self._inherit(order)
                case "forward":
                    answer = self._forward(str(order))
                case "prepare":
                    answer = await self._prepare(order)
                case "activate":
                    answer = await self._activate()
                case "discard":
                    answer = self._discard()
                case unknown:
                    answer = refused([Fault(f"unknown command {unknown!r}")])
        finally:
            settle()
        return answer

    async def _look(self, message: Message) -> Message:
        """What stands in the counters that a person asks for."""
        if self._rooms is None:
            return refused([Fault("nothing was started")])
        descriptors = message["descriptors"]
        if not isinstance(descriptors, list):
            return refused([Fault("descriptors: a list is missing")])
        written = [[WrittenEntry(key, value) for key, value in descriptor] for descriptor in descriptors]
        return {"event": "looked", "counters": await self._rooms.look(str(message["domain"]), written)}

    async def _build_first(self, path: Path) -> dict[str, object]:
        order = read_private(path, WorkerOrder)
        configuration = self._configuration = order.configuration
        self._credentials = order.credentials
        configure_logs(configuration.log, "worker")
        await load_engine(configuration.policy)
        snapshot, reply = self._build(order, path.parent)
        self._admission = Admission(configuration.server.max_in_flight, self._clock, self._registry)
        precedence = Precedence(wanted_seconds(), lambda: self._admission.arrived, self._clock, self._registry)
        self._rooms = Rooms(snapshot, self._registry, self._clock, order.store_socket, path.parent, precedence)
        self._folder = path.parent
        self._max_age = configuration.server.max_connection_age
        if is_costly(float(str(reply["cost"]))):
            self._max_age = min(self._max_age, HEAVY_CONNECTION_AGE)
        return reply

    async def _hand_over(self, folder: Path, *, rest: bool) -> dict[str, object]:
        """Writes the counters for the successor; the second time only what was charged since the first."""
        if self._rooms is None:
            return refused([Fault("nothing was started")])
        write = hand_on_rest if rest else hand_on
        return {"event": "handed over", "counters": str(await write(self._rooms.counters, folder))}

    async def _inherit(self, counters: Path) -> dict[str, object]:
        """Counts on from where the predecessor was."""
        if self._rooms is None:
            return refused([Fault("nothing is built")])
        lost = await inherit(self._rooms.counters, counters)
        if lost:
            self._log.error(
                "counters of rate limits found no place; rate_limit.max_counters is too small",
                way_out="raise rate_limit.max_counters",
                lost=lost,
            )
        return {"event": "inherited"}

    async def _listen(self) -> dict[str, object]:
        """Answers Envoy, and at an address of its own the workers that it takes over from."""
        rooms = self._rooms
        if rooms is None:
            raise ProcessError("nothing is built that could answer")
        rooms.start()
        settings = self._configuration.server
        limits = ServerLimits(
            settings.max_message_bytes,
            settings.max_in_flight,
            self._max_age,
            settings.max_connection_age_grace,
            settings.max_streams,
            settings.max_metadata_bytes,
            settings.max_waiting,
        )
        admission = self._admission
        for listener in settings.listeners:
            address, services = str(listener.address), listener.service_names
            server = self._server(listener, rooms.table(services), limits, admission)
            await server.start()
            self._servers.append(server)
            tls = self._tls.get(address)
            self._log.info(
                "listening", address=address, transport=listener.transport, services=list(services),
                tls=tls is not None, authenticates=tls is not None and tls.authenticates,
            )  # fmt: skip
        own = f"{self._folder}/worker-{secrets.token_hex(4)}"
        server = GrpcioServer(f"unix://{own}", rooms.table(UNARY), limits, admission, self._clock, behind=True)
        await server.start()
        self._servers.append(server)
        self._watching = asyncio.create_task(watch_health(rooms.unhealthy, self._servers, self._registry))
        self._data_plane = await let_traffic_in(settings, self._host)
        return {"event": "listening", "address": own}

    def _server(
        self, listener: ListenerSettings, table: HandlerTable, limits: ServerLimits, admission: Admission
    ) -> Server:
        address, sharers = listener.address, self._configuration.server.workers
        tls = self._tls_of(listener)
        if listener.transport == "grpcio":
            return GrpcioServer(str(address), table, limits, admission, self._clock, sharers=sharers, tls=tls)
        if self._host is None:
            raise ProcessError(f"cannot listen on {address}: this worker is not inside an Envoy")
        return envoy_server(address, table, limits, admission, self._clock, self._host, sharers, tls)

    def _tls_of(self, listener: ListenerSettings) -> ListenerTls | None:
        """TLS of a listener; None where it speaks plaintext.

        Raises:
            ProcessError: it was given no certificate.
        """
        settings, address = self._configuration.server, str(listener.address)
        if settings.tls_of(listener) is None:
            return None
        credentials = self._credentials.get(address)
        if credentials is None:
            raise ProcessError(f"there is no certificate for {address}, and no fall-back to plaintext")
        tls = ListenerTls(address, credentials, settings.peers_of(listener), self._registry, self._clock)
        self._tls[address] = tls
        return tls

    async def _renew_tls(self, message: Message) -> Message:
        """Shows other certificates to new connections, and lets in whom other lists name."""
        order = read_private(Path(str(message["order"])), TlsOrder)
        self._credentials = order.credentials
        faults = []
        for listener in order.server.listeners:
            address = str(listener.address)
            if address in self._tls:
                try:
                    self._tls[address].renew(order.credentials[address], order.server.peers_of(listener))
                except ProcessError as error:
                    faults.append(Fault(f"{address}: {error}"))
        return refused(faults) if faults else {"event": "renewed"}

    def _forward(self, address: str) -> dict[str, object]:
        """Lets the worker at an address answer from now on.

        What decided here stays until this process ends: to free a large revision takes as long as a stall.
        """
        if self._rooms is None:
            return refused([Fault("nothing was started")])
        forwarder = Forwarder(f"unix://{address}", self._configuration.server.max_message_bytes, self._clock)
        for server in self._servers:
            server.forward(forwarder)
        if self._giving_way is None:
            self._giving_way = asyncio.create_task(give_way(self._servers, self._data_plane))
        before, self._forwarder = self._forwarder, forwarder
        if before is not None:
            self._closing = asyncio.create_task(before.close(self._configuration.server.drain_timeout))
        settings = self._configuration.server
        # Connections of the data plane have an age of their own.
        age = self._max_age if self._data_plane is None else settings.max_connection_age
        return {"event": "forwarding", "stay": oldest_age(age) + settings.max_connection_age_grace}

    async def _record(self, message: Message) -> Message:
        """Records by other settings what is logged on old connections, where log streams stay until these end."""
        if self._rooms is None:
            return refused([Fault("nothing was started")])
        self._rooms.record_by(read_private(Path(str(message["order"])), TelemetrySettings))
        return {"event": "recording"}

    async def _prepare(self, path: Path) -> dict[str, object]:
        """Builds a snapshot beside the one in use."""
        order = read_private(path, WorkerOrder)
        await load_engine(order.configuration.policy)
        self._prepared, reply = self._build(order, path.parent)
        return reply

    def _build(self, order: WorkerOrder, folder: Path) -> tuple[Snapshot, dict[str, object]]:
        """A snapshot, and what to say of it; what was read for it is left in `folder` for other workers."""
        self._vital_signs.loading(now=True)
        begun = time.thread_time()
        try:
            if order.sources is None:
                sources = read(order.configuration, order.fetched)
            else:
                sources = read_private(order.sources, Sources)
            snapshot = build(order.configuration, sources, self._vital_signs, self._registry)
        finally:
            self._vital_signs.loading(now=False)
        sources_path = order.sources or write_private(sources, folder, "sources")
        return snapshot, {
            "event": "prepared",
            "revision": snapshot.revision,
            "description": snapshot.describe(),
            "sources": str(sources_path),
            "cost": time.thread_time() - begun,
        }

    def _discard(self) -> dict[str, object]:
        self._prepared = None
        return {"event": "discarded"}

    async def _activate(self) -> dict[str, object]:
        if self._prepared is None or self._rooms is None:
            return refused([Fault("nothing is prepared")])
        await self._rooms.activate(self._prepared)
        revision, self._prepared = self._prepared.revision, None
        return {"event": "activated", "revision": revision}

    async def _drain(self) -> None:
        """Refuses what is new, ends what runs, writes what waits."""
        if self._drained:
            return
        self._drained = True
        if self._giving_way is not None:
            self._giving_way.cancel()
        await drain(self._servers, self._data_plane, self._rooms, self._configuration.server)
        if self._forwarder is not None:
            await self._forwarder.close(0.0)


async def run_worker(control_fd: int, table: Path, stop: asyncio.Event, host: EnvoyHost | None = None) -> int:
    """Runs a worker in this loop.

    Args:
        control_fd: descriptor of its end of the control channel.
        table: prefix of the files that it counts in.
        stop: set when it has to end.
        host: the Envoy around it; None without one.

    Returns:
        The exit code.
    """
    registry = Registry(Table(table))
    control = await ControlChannel.over(socket.socket(fileno=control_fd))
    return await Worker(control, registry, host).run(stop)


async def _run(control_fd: int, table: Path) -> int:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    return await run_worker(control_fd, table, stop)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a worker; the exit code."""
    die_with_parent()
    options = childhood.command_line("mixer_py.runtime.worker").parse_args(arguments)
    return childhood.run(_run(options.control_fd, options.table))


if __name__ == "__main__":
    raise SystemExit(main())

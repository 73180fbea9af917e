"""One listener of the Envoy around this Python: what `GrpcioServer` is for grpcio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import Final

from mixer_py.credentials import Credentials
from mixer_py.errors import ProcessError
from mixer_py.instruments import Clock
from mixer_py.transports.admission import Admission
from mixer_py.transports.envoy import health
from mixer_py.transports.envoy.answering import Answering
from mixer_py.transports.envoy.certificates import show, transport_socket
from mixer_py.transports.envoy.handshakes import Handshakes
from mixer_py.transports.envoy.health import Health
from mixer_py.transports.envoy.host import EnvoyHost
from mixer_py.transports.envoy.resources import Manners, listener, tcp, unix
from mixer_py.transports.forwarding import Forwarder
from mixer_py.transports.handlers import HandlerTable
from mixer_py.transports.places import UNIX, Place
from mixer_py.transports.tls import ListenerTls

_PAUSE_SECONDS: Final = 0.05
_CONNECTIONS: Final = "http.calls.downstream_cx_active"

TcpPlace = tuple[str, int, bool]
"""An IP address, a port, and whether IPv4 is let in where the address is every one of IPv6."""


class EnvoyServer:
    """One listener."""

    def __init__(
        self,
        address: str,
        places: Sequence[TcpPlace],
        table: HandlerTable,
        manners: Manners,
        admission: Admission,
        clock: Clock,
        host: EnvoyHost,
        *,
        internal: str = "",
        sharers: int = 1,
        tls: ListenerTls | None = None,
    ) -> None:
        """Prepares a listener; nothing is bound before `start`.

        Args:
            address: `host:port`, `unix:///path` or `internal://name`.
            places: what a TCP address stands for; else none.
            table: what it answers; it has no streams.
            manners: of the listener.
            admission: shared by all listeners of a process.
            clock: for deadlines.
            host: the Envoy around.
            internal: name of the internal listener, which only the data plane in this process can reach; else empty.
            sharers: how many processes listen at the address at a time, but for takeovers.
            tls: what is spoken there; None for plaintext.
        """
        self.address = address
        self._host = host
        self._internal = bool(internal)
        self._place = None if internal else Place(address, sharers)
        self._admission = admission
        self._health = Health(("", *table.service_names(), *table.health_names))
        self._leaving = False
        self._answering = Answering(
            table.unary,
            {health.METHOD: self._health.check} if table.health else {},
            manners.max_message_bytes,
            admission,
            clock,
            names={health.METHOD: "health", **table.names},
            authenticated=self._internal or address.startswith(UNIX),
            tls=tls,
        )
        self._name, application = host.take(self._answering, internal)
        bound = [tcp(ip, port, both_families=both) for ip, port, both in places]
        if self._place is not None and address.startswith(UNIX):
            bound = [unix(self._place.bound.removeprefix(UNIX))]
        self._tls = tls
        self._handshakes: Handshakes | None = None
        self._watching: asyncio.Task[None] | None = None
        socket = None
        if tls is not None:
            tls.shown_by(self._show)
            self._handshakes = Handshakes(address, self._name, host, tls.registry)
            socket = transport_socket(host.files, self._name, authenticates=tls.authenticates)
        self._listener = listener(self._name, bound, application, manners, socket)

    async def start(self) -> None:
        """Binds and accepts.

        Raises:
            ProcessError: the address cannot be bound.
        """
        try:
            if self._tls is not None:
                self._show(self._tls.credentials)
            await self._host.add(self._name, self._listener)
        except ProcessError as error:
            raise ProcessError(f"cannot listen on {self.address}: {error}") from error
        self._host.tell_refused(self._admission.count_untaken)
        if self._place is not None:
            self._place.publish()
        if self._handshakes is not None:
            self._watching = asyncio.create_task(self._handshakes.watch())

    def _show(self, credentials: Credentials) -> None:
        show(self._host.files, self._name, credentials)

    def forward(self, forwarder: Forwarder) -> None:
        """Lets another process answer every unary call that is not being answered yet."""
        self._answering.forward(forwarder)

    async def give_way(self) -> None:
        """Takes no new connections, for a successor listens, and asks the clients of those that there are to go.

        Not within one process: what the data plane has in hand asks here to its end.
        """
        if self._place is not None:
            await self._place.until_empty()
            self._host.remove(self._name)
            await self._host.hurry_later()

    async def refuse_new(self) -> None:
        """Tells health checkers that this listener is going away."""
        self._leaving = True
        self._health.tell_all(serving=False)

    async def tell_health(self, names: Iterable[str], *, serving: bool) -> None:
        """Tells health checkers that ask for these names, where this listener has them, until it goes away."""
        if not self._leaving:
            self._health.tell(names, serving=serving)

    async def stop(self, grace: float) -> None:
        """Sends GOAWAY, and lets calls in flight end and clients go for up to `grace` seconds.

        Envoy stays until this process ends, so what has not ended by then ends with it.
        """
        if not self._internal:
            self._host.remove(self._name)
            self._host.hurry()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._until_idle()
        if self._place is not None:
            self._place.leave()
        if self._watching is not None and self._handshakes is not None:
            self._watching.cancel()
            await self._handshakes.look_again()

    async def _until_idle(self) -> None:
        while self._answering.in_flight > 0:  # noqa: ASYNC110 (it is counted at every call, and waited for once)
            await asyncio.sleep(_PAUSE_SECONDS)
        if not self._internal:  # a connection that is there may bring another call, and is counted until its answer
            await self._host.until_none(_CONNECTIONS)

"""A listener with TLS on either transport, and what a test does to it: what test_tls.py starts.

On grpcio it lives in the process of the test. `python -m tests.transports.tls_listener FOLDER` becomes an Envoy, which
loads this module again and opens listeners as it is asked to at the socket `control` in that folder.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from mixer_py.calls import Call
from mixer_py.credentials import Credentials
from mixer_py.instruments import Registry, SystemClock
from mixer_py.peers import AllowList
from mixer_py.transports import Admission, EnvoyHost, EnvoyServer, GrpcioServer, HandlerTable, ListenerTls, ServerLimits
from mixer_py.transports.envoy.files import HostFiles
from mixer_py.transports.envoy.inside import Inside
from mixer_py.transports.envoy.process import become_envoy
from mixer_py.transports.envoy.resources import Manners

LIMITS = ServerLimits(1000, 10, 600, 5, max_streams=100, max_metadata_bytes=8192, max_waiting=100)
MANNERS = Manners(LIMITS.max_message_bytes, 600, LIMITS.max_streams, LIMITS.max_metadata_bytes, LIMITS.max_waiting)
CHECK = "/envoy.service.auth.v3.Authorization/Check"
LIMIT = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
STREAM = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
NAMES = {CHECK: "ext_authz", LIMIT: "rate_limit", STREAM: "access_log"}
SERVICES = (*NAMES.values(), "health", "reflection")
Lists = Mapping[str, AllowList | None]
_FOLDER = "TEST_FOLDER"


class Clock(SystemClock):
    """The machine's, but for a wall clock that a test moves."""

    ahead = 0.0

    def wall(self) -> float:
        return SystemClock.wall() + self.ahead


async def tell_caller(_message: bytes, call: Call) -> bytes:
    return b"authenticated" if call.authenticated else b"anybody"


async def count(messages: AsyncIterator[bytes], call: Call) -> bytes:
    return b"%d %r" % (len([message async for message in messages]), call.authenticated)


class TlsListener:
    """One listener."""

    def __init__(
        self, port: int, own: Credentials, allowed: Lists, handshake: str = "", host: EnvoyHost | None = None
    ) -> None:
        self.address = f"127.0.0.1:{port}"
        self._registry = Registry()
        self._clock = Clock()
        unary = {CHECK: tell_caller, LIMIT: tell_caller}
        self._tls = ListenerTls(self.address, own, allowed, self._registry, self._clock)
        admission = Admission(10, self._clock, self._registry)
        self._host = host
        self._server: GrpcioServer | EnvoyServer
        if host is None:
            table = HandlerTable(unary, {STREAM: count}, names=NAMES)
            self._server = GrpcioServer(self.address, table, LIMITS, admission, self._clock, tls=self._tls)
        else:
            table = HandlerTable(unary, reflection=False, names=NAMES)
            place = ("127.0.0.1", port, False)
            self._server = EnvoyServer(
                self.address, [place], table, MANNERS, admission, self._clock, host, tls=self._tls
            )  # fmt: skip
            if handshake:
                self._server._listener["filter_chains"][0]["transport_socket_connect_timeout"] = handshake

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        if isinstance(self._server, EnvoyServer):
            assert self._host is not None
            self._host.remove(self._server._name)  # to stop it would end idle connections of all others, too
        else:
            await self._server.stop(0)

    async def renew(self, own: Credentials, allowed: Lists) -> None:
        self._tls.renew(own, allowed)

    async def let_pass(self, seconds: float) -> None:
        """Moves the wall clock from now on."""
        self._clock.ahead = seconds

    async def refused(self, service: str, reason: str) -> float:
        return self._counted(("listener", self.address), ("service", service), ("reason", reason))

    async def failed(self, reason: str) -> float:
        """Handshakes that Envoy counts as such."""
        assert isinstance(self._server, EnvoyServer)
        assert self._server._handshakes is not None
        await self._server._handshakes.look()
        return self._counted(("listener", self.address), ("reason", reason))

    async def not_taken(self) -> float:
        """Certificates that Envoy did not take."""
        assert isinstance(self._server, EnvoyServer)
        assert self._server._handshakes is not None
        await self._server._handshakes.look()
        return self._counted(("listener", self.address))

    async def resumed(self) -> int:
        """Sessions that Envoy has resumed."""
        assert isinstance(self._server, EnvoyServer)
        assert self._host is not None
        return await self._host.count(f"listener.{self._server._name}.ssl.session_reused")

    def _counted(self, *labels: tuple[str, str]) -> float:
        return {one.labels: values[0] for one, values in self._registry.read()}[labels]


async def serve(host: EnvoyHost, stop: asyncio.Event) -> int:
    """Opens listeners, and does with them what is asked, until SIGTERM."""
    listeners: dict[int, TlsListener] = {}

    async def do(action: str, port: int, *arguments: Any) -> Any:
        if action == "open":
            listeners[port] = TlsListener(port, *arguments, host)
            action, arguments = "start", ()
        return await getattr(listeners[port], action)(*arguments)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if asked := await reader.read():  # else somebody looked whether this is open
            writer.write(pickle.dumps(await do(*pickle.loads(asked))))  # noqa: S301 (from our own)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_unix_server(answer, host.files.folder / "control"):
        await stop.wait()
    return 0


async def ask(folder: Path, action: str, port: int, *arguments: Any) -> Any:
    """What came of an action at the listener on a port of the Envoy whose folder that is."""
    reader, writer = await asyncio.open_unix_connection(folder / "control")
    writer.write(pickle.dumps((action, port, *arguments)))
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return pickle.loads(answer)  # noqa: S301 (from our own)


if __name__ == "__main__":
    become_envoy(HostFiles(Path(sys.argv[1])), "tests.transports.tls_listener", "test", {_FOLDER: sys.argv[1]})
elif _FOLDER in os.environ:  # inside Envoy
    _INSIDE = Inside(HostFiles(Path(os.environ[_FOLDER])), __name__, serve)

    def __getattr__(name: str) -> object:
        return _INSIDE.find(name)

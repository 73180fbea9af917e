"""TLS of a listener, with real handshakes: who gets in, who may call what, and what a renewed certificate changes."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from grpc.experimental import session_cache
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from mixer_py.calls import Call
from mixer_py.credentials import Credentials, peer_of
from mixer_py.instruments import Registry, SystemClock
from mixer_py.peers import AllowList, parse_allow_list
from mixer_py.transports import Admission, GrpcioServer, HandlerTable, ListenerTls, ServerLimits
from tests.parts.certificates import Authority, Certificate
from tests.parts.grpc_client import credentials

LIMITS = ServerLimits(1000, 10, 600, 5, max_streams=100, max_metadata_bytes=8192, max_waiting=100)
CHECK = "/envoy.service.auth.v3.Authorization/Check"
STREAM = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
SERVICES = ("ext_authz", "access_log", "health", "reflection")
ENVOY = "spiffe://cluster.local/ns/istio-system/sa/gateway"
PATIENCE = 30.0


class Clock(SystemClock):
    """The machine's, but for a wall clock that a test moves."""

    ahead = 0.0

    def wall(self) -> float:
        return SystemClock.wall() + self.ahead


async def tell_caller(_message: bytes, call: Call) -> bytes:
    return b"authenticated" if call.authenticated else b"anybody"


async def count(messages: AsyncIterator[bytes], call: Call) -> bytes:
    return b"%d %r" % (len([message async for message in messages]), call.authenticated)


class Listener:
    """A listener with TLS on a port of this machine."""

    def __init__(self, own: Credentials, allowed: dict[str, AllowList | None] | None = None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.registry = Registry()
        self.clock = Clock()
        table = HandlerTable({CHECK: tell_caller}, {STREAM: count}, names={CHECK: "ext_authz", STREAM: "access_log"})
        self.allowed = dict.fromkeys(SERVICES) | (allowed or {})
        self.tls = ListenerTls(self.address, own, self.allowed, self.registry, self.clock)
        admission = Admission(10, self.clock, self.registry)
        self.server = GrpcioServer(self.address, table, LIMITS, admission, self.clock, tls=self.tls)

    async def call(
        self, client: grpc.ChannelCredentials | None, method: str = CHECK, cache: object = None
    ) -> bytes | grpc.StatusCode:
        """What a client with a connection of its own is answered, or how its call ends."""
        async with self.connected(client, cache) as channel:
            try:
                if method == STREAM:
                    return await channel.stream_unary(method)(iter([b"a", b"b"]), timeout=PATIENCE)
                return await channel.unary_unary(method)(b"", timeout=PATIENCE)
            except grpc.aio.AioRpcError as error:
                return error.code()

    @asynccontextmanager
    async def connected(
        self, client: grpc.ChannelCredentials | None, cache: object = None
    ) -> AsyncIterator[grpc.aio.Channel]:
        options = [("grpc.use_local_subchannel_pool", 1)]
        if cache is not None:  # which remembers sessions by the server's name
            options += [("grpc.ssl_session_cache", cache), ("grpc.ssl_target_name_override", "mixer.example")]
        made = (
            grpc.aio.insecure_channel(self.address, options=options)
            if client is None
            else grpc.aio.secure_channel(self.address, client, options=options)
        )
        async with made as channel:
            yield channel

    def refused(self, service: str, reason: str) -> float:
        series = (("listener", self.address), ("service", service), ("reason", reason))
        return {one.labels: values[0] for one, values in self.registry.read()}[series]


@asynccontextmanager
async def serving(own: Credentials, allowed: dict[str, AllowList | None] | None = None) -> AsyncIterator[Listener]:
    listener = Listener(own, allowed)
    await listener.server.start()
    try:
        yield listener
    finally:
        await listener.server.stop(0)


class World:
    """An authority of servers and clients, and what it has issued."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.own = self.authority.issue("server", dns=["mixer.example"])
        self.envoy = self.authority.issue("envoy", uris=[ENVOY])
        self.other = self.authority.issue("other", dns=["other.example"])

    def credentials(self, own: Certificate | None = None, *, client_ca: bool = True) -> Credentials:
        own = own or self.own
        authority = self.authority.certificate.read_bytes() if client_ca else None
        return Credentials(own.certificate.read_bytes(), own.key.read_bytes(), authority)

    def client(self, shown: Certificate | None) -> grpc.ChannelCredentials:
        return credentials(self.authority.certificate, shown)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("tls"))


async def test_a_client_with_a_certificate_is_authenticated_and_streams_are_too(world: World) -> None:
    async with serving(world.credentials()) as listener:
        assert await listener.call(world.client(world.envoy)) == b"authenticated"
        assert await listener.call(world.client(world.envoy), STREAM) == b"2 True"


async def test_without_client_ca_nobody_is_authenticated_whatever_they_show(world: World) -> None:
    async with serving(world.credentials(client_ca=False)) as listener:
        assert await listener.call(world.client(None)) == b"anybody"
        assert await listener.call(world.client(world.envoy)) == b"anybody"


async def test_a_voucher_of_a_worker_is_not_believed_of_a_client(world: World) -> None:
    async with (
        serving(world.credentials(client_ca=False)) as listener,
        listener.connected(world.client(None)) as channel,
    ):
        answer = await channel.unary_unary(CHECK)(b"", metadata=(("mixer-authenticated", "1"),), timeout=PATIENCE)
        assert answer == b"anybody"


def of_another_authority(world: World) -> Certificate:
    return Authority(world.folder, "stranger").issue("theirs", uris=[ENVOY])


def expired(world: World) -> Certificate:
    return world.authority.issue("expired", uris=[ENVOY], begins=timedelta(days=-2), ends=timedelta(days=-1))


def not_yet_good(world: World) -> Certificate:
    return world.authority.issue("early", uris=[ENVOY], begins=timedelta(days=1), ends=timedelta(days=2))


def for_servers_only(world: World) -> Certificate:
    return world.authority.issue("service", uris=[ENVOY], usage=[x509.ExtendedKeyUsageOID.SERVER_AUTH])


def vouching_for_itself(world: World) -> Certificate:
    from tests.parts.certificates import make_certificate

    return make_certificate(world.folder, "self", uri=ENVOY)


@pytest.mark.parametrize(
    "make", [None, of_another_authority, expired, not_yet_good, for_servers_only, vouching_for_itself]
)
async def test_nobody_without_a_good_certificate_of_client_ca_is_connected(
    world: World, make: Callable[[World], Certificate] | None
) -> None:
    async with serving(world.credentials()) as listener:
        shown = None if make is None else make(world)
        assert await listener.call(world.client(shown)) is grpc.StatusCode.UNAVAILABLE
        assert await listener.call(world.client(world.envoy)) == b"authenticated", "and the next is served"


async def test_there_is_no_fall_back_to_plaintext(world: World) -> None:
    async with serving(world.credentials()) as listener:
        assert await listener.call(None) is grpc.StatusCode.UNAVAILABLE
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        assert b"\x00\x00" not in answer[:2], "no HTTP/2 SETTINGS frame, at most a TLS alert"
        assert answer[:1] in {b"", b"\x15"}
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("version", "gets_in"), [("-tls1", False), ("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)]
)
async def test_tls_is_of_version_1_2_and_up(world: World, version: str, gets_in: bool) -> None:
    async with serving(world.credentials()) as listener:
        # Security level 0, so that it is not the client who refuses.
        command = [
            "openssl", "s_client", "-connect", listener.address, version, "-cipher", "DEFAULT:@SECLEVEL=0",
            "-alpn", "h2", "-CAfile", world.authority.certificate, "-cert", world.envoy.certificate,
            "-key", world.envoy.key,
        ]  # fmt: skip
        done = await asyncio.to_thread(
            subprocess.run, command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
        )
        assert (b"Cipher is (NONE)" not in done.stdout) is gets_in, done.stdout[-500:] + done.stderr
        assert not gets_in or version.removeprefix("-tls").replace("_", ".").encode() in done.stdout
        assert await listener.call(world.client(world.envoy)) == b"authenticated"


async def test_only_those_on_its_list_may_call_a_service_and_refusals_are_counted(world: World) -> None:
    allowed = {"access_log": parse_allow_list(["spiffe://cluster.local/ns/istio-system/*"])}
    async with serving(world.credentials(), allowed) as listener:
        for client, answer in ((world.envoy, b"2 True"), (world.other, grpc.StatusCode.PERMISSION_DENIED)):
            assert await listener.call(world.client(client)) == b"authenticated"
            assert await listener.call(world.client(client), STREAM) == answer
        assert await listener.call(world.client(world.other), STREAM) is grpc.StatusCode.PERMISSION_DENIED
        assert listener.refused("access_log", "not_allowed") == 2
        assert listener.refused("ext_authz", "not_allowed") == 0


async def test_a_refused_peer_is_told_why_and_learns_no_list(world: World) -> None:
    allowed = {"ext_authz": parse_allow_list([ENVOY])}
    async with (
        serving(world.credentials(), allowed) as listener,
        listener.connected(world.client(world.other)) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(CHECK)(b"", timeout=PATIENCE)
        details = caught.value.details() or ""
        assert "server.tls.allow" in details
        assert "spiffe" not in details


async def test_health_and_reflection_have_lists_too_in_all_their_methods(world: World) -> None:
    nobody = parse_allow_list(["nobody.example"])
    async with (
        serving(world.credentials(), {"health": nobody, "reflection": nobody}) as listener,
        listener.connected(world.client(world.envoy)) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        calls = [
            health.Check(health_pb2.HealthCheckRequest()),
            health.Watch(health_pb2.HealthCheckRequest()),
            reflection.ServerReflectionInfo(iter([asked])),
        ]
        for call in calls:
            assert await call.code() is grpc.StatusCode.PERMISSION_DENIED
        assert await health.List(health_pb2.HealthListRequest()).code() is grpc.StatusCode.UNIMPLEMENTED
        assert (listener.refused("health", "not_allowed"), listener.refused("reflection", "not_allowed")) == (2, 1)
        assert await listener.call(world.client(world.envoy)) == b"authenticated"


async def test_those_who_may_are_answered_by_health_and_reflection(world: World) -> None:
    mine = parse_allow_list([ENVOY])
    async with (
        serving(world.credentials(), {"health": mine, "reflection": mine}) as listener,
        listener.connected(world.client(world.envoy)) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
        watching = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
        watching.cancel()
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([asked]))
        assert "grpc.health.v1.Health" in {one.name for one in (await call.read()).list_services_response.service}
        call.cancel()


async def test_a_certificate_that_expires_while_its_connection_lives_is_refused_from_then_on(world: World) -> None:
    async with serving(world.credentials()) as listener, listener.connected(world.client(world.envoy)) as channel:
        check = channel.unary_unary(CHECK)
        assert await check(b"", timeout=PATIENCE) == b"authenticated"
        listener.clock.ahead = timedelta(days=2).total_seconds()
        assert await check(b"", timeout=PATIENCE).code() is grpc.StatusCode.PERMISSION_DENIED
        assert listener.refused("ext_authz", "expired") == 1


async def test_who_resumes_a_session_is_judged_by_the_certificate_that_began_it(world: World, monkeypatch) -> None:
    """A ticket makes the next handshake one without certificates, for days: names and end must still be those."""
    resumed = []
    judge = ListenerTls.judge

    def seen(self: ListenerTls, service: str, context: grpc.aio.ServicerContext) -> bool:
        resumed.append(next(iter(context.auth_context()["ssl_session_reused"])))
        return judge(self, service, context)

    monkeypatch.setattr(ListenerTls, "judge", seen)
    cache = session_cache.ssl_session_cache_lru(1)
    async with serving(world.credentials(), {"ext_authz": parse_allow_list(["other.example"])}) as listener:

        async def call() -> bytes | grpc.StatusCode:
            return await listener.call(world.client(world.other), cache=cache)

        assert [await call(), await call()] == [b"authenticated"] * 2
        listener.tls.renew(world.credentials(), {"ext_authz": parse_allow_list([ENVOY])})
        assert await call() is grpc.StatusCode.PERMISSION_DENIED
        listener.clock.ahead = timedelta(days=2).total_seconds()
        assert await call() is grpc.StatusCode.PERMISSION_DENIED
        assert listener.refused("ext_authz", "expired") == 1
        assert resumed == [b"false", b"true", b"true", b"true"]
        stranger = Authority(world.folder, "new-authority").certificate.read_bytes()
        own = world.credentials()
        listener.tls.renew(Credentials(own.certificate, own.key, stranger), dict.fromkeys(SERVICES))
        assert await call() is grpc.StatusCode.UNAVAILABLE, "another client_ca ends all sessions"


def shown_by(port: int, world: World) -> str:
    """The name in the certificate that a new connection sees."""
    context = ssl.create_default_context(cafile=str(world.authority.certificate))
    context.load_cert_chain(world.envoy.certificate, world.envoy.key)
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        subject = secure.getpeercert()["subject"]
    return str(dict(part for parts in subject for part in parts)["commonName"])


async def test_a_renewed_certificate_is_shown_to_new_connections_and_old_ones_go_on(world: World) -> None:
    renewed = world.authority.issue("renewed")
    async with serving(world.credentials()) as listener, listener.connected(world.client(world.envoy)) as channel:
        check = channel.unary_unary(CHECK)
        assert await check(b"", timeout=PATIENCE) == b"authenticated"
        assert await asyncio.to_thread(shown_by, listener.port, world) == "server"
        listener.tls.renew(world.credentials(renewed), listener.allowed)
        assert await asyncio.to_thread(shown_by, listener.port, world) == "renewed"
        assert await check(b"", timeout=PATIENCE) == b"authenticated"
        listener.tls.renew(world.credentials(), listener.allowed)
        assert await asyncio.to_thread(shown_by, listener.port, world) == "server"


async def test_another_list_holds_from_the_next_call_of_a_living_connection_on(world: World) -> None:
    async with serving(world.credentials()) as listener, listener.connected(world.client(world.other)) as channel:
        check = channel.unary_unary(CHECK)
        assert await check(b"", timeout=PATIENCE) == b"authenticated"
        listener.tls.renew(world.credentials(), listener.allowed | {"ext_authz": parse_allow_list([ENVOY])})
        assert await check(b"", timeout=PATIENCE).code() is grpc.StatusCode.PERMISSION_DENIED
        listener.tls.renew(world.credentials(), listener.allowed)
        assert await check(b"", timeout=PATIENCE) == b"authenticated"


def test_the_names_of_a_certificate_are_told_by_kind(world: World) -> None:
    shown = world.authority.issue("many", dns=["a.example"], uris=[ENVOY, "https://x/"], addresses=["10.0.0.1", "::1"])
    names = peer_of(shown.certificate.read_bytes()).names
    assert names.dns == ("a.example",)
    assert names.uris == (ENVOY, "https://x/")
    assert names.addresses == ("10.0.0.1", "::1")
    nameless = peer_of(world.authority.issue("nameless", addresses=()).certificate.read_bytes()).names
    assert (nameless.dns, nameless.uris, nameless.addresses) == ((), (), ())


async def test_many_certificates_are_each_judged_by_their_own_names(world: World, monkeypatch) -> None:
    monkeypatch.setattr("mixer_py.transports.tls._MOST_KNOWN", 2)
    allowed = {"ext_authz": parse_allow_list([ENVOY])}
    async with serving(world.credentials(), allowed) as listener:
        for _ in range(2):
            for name in ("one", "two"):
                mine = world.authority.issue(name, uris=[ENVOY])
                assert await listener.call(world.client(mine)) == b"authenticated"
            assert await listener.call(world.client(world.other)) is grpc.StatusCode.PERMISSION_DENIED
        assert len(listener.tls._known) <= 2

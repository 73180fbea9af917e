"""TLS of a listener, with real handshakes: who gets in, who may call what, and what a renewed certificate changes."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from grpc.experimental import session_cache
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from mixer_py.credentials import Credentials, peer_of
from mixer_py.demo.processes import Ports
from mixer_py.errors import PermissionDeniedError
from mixer_py.instruments import Registry
from mixer_py.peers import AllowList, parse_allow_list
from mixer_py.transports import ListenerTls
from mixer_py.transports.grpcio_tls import GrpcioTls
from tests.parts.certificates import Authority, Certificate
from tests.parts.grpc_client import credentials
from tests.parts.presence import ROOT
from tests.parts.programs import Programs
from tests.transports.tls_listener import CHECK, LIMIT, SERVICES, STREAM, Clock, TlsListener, ask

ENVOY = "spiffe://cluster.local/ns/istio-system/sa/gateway"
PATIENCE = 60.0
TRANSPORTS = ("grpcio", pytest.param("envoy", marks=pytest.mark.envoy))
Lists = dict[str, AllowList | None]


async def eventually(look: Callable[[], Awaitable[bool]], what: str) -> None:
    """Returns once `look()` is true."""
    end = asyncio.get_running_loop().time() + PATIENCE
    while not await look():
        assert asyncio.get_running_loop().time() < end, f"not within {PATIENCE:g} s: {what}"
        await asyncio.sleep(0.02)


class Listener:
    """A listener with TLS on a port of this machine, on either transport."""

    def __init__(self, port: int, allowed: Lists, do: Callable[..., Awaitable[Any]], folder: Path | None) -> None:
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self.allowed = allowed
        self.do = do
        self.is_envoy = folder is not None

    async def renew(self, own: Credentials, allowed: Lists | None = None) -> None:
        await self.do("renew", own, self.allowed if allowed is None else allowed)

    async def refused(self, service: str, reason: str) -> float:
        found: float = await self.do("refused", service, reason)
        return found

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


def is_open(path: Path) -> bool:
    """Whether somebody listens at a unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


Serving = Callable[..., AbstractAsyncContextManager[Listener]]


@pytest.fixture(scope="module", params=TRANSPORTS)
def folder(request: pytest.FixtureRequest, module_programs: Programs) -> Iterator[Path | None]:
    """That of an Envoy which opens listeners; None where they are opened here, on grpcio."""
    if request.param == "grpcio":
        yield None
        return
    folder = module_programs.folder / "files"
    command = (sys.executable, "-m", "tests.transports.tls_listener", folder)
    program = module_programs.start("envoy", command, environment={"PYTHONPATH": str(ROOT)})
    program.wait_until(lambda: is_open(folder / "control"))
    yield folder


@pytest.fixture
def serving(folder: Path | None, ports: Ports) -> Serving:
    """Opens a listener on one of the transports."""

    @asynccontextmanager
    async def serving(own: Credentials, allowed: Lists | None = None, handshake: str = "") -> AsyncIterator[Listener]:
        port, lists = ports.take(), dict.fromkeys(SERVICES) | (allowed or {})
        here = None if folder is not None else TlsListener(port, own, lists)

        async def do(action: str, *arguments: Any) -> Any:
            if folder is not None:
                return await ask(folder, action, port, *arguments)
            return await getattr(here, action)(*arguments)

        await do(*(("start",) if folder is None else ("open", own, lists, handshake)))
        try:
            yield Listener(port, lists, do, folder)
        finally:
            await do("stop")

    return serving


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


async def test_a_client_with_a_certificate_is_authenticated_and_streams_are_too(serving: Serving, world: World) -> None:
    async with serving(world.credentials()) as listener:
        assert await listener.call(world.client(world.envoy)) == b"authenticated"
        if not listener.is_envoy:
            assert await listener.call(world.client(world.envoy), STREAM) == b"2 True"


async def test_without_client_ca_nobody_is_authenticated_whatever_they_show(serving: Serving, world: World) -> None:
    async with serving(world.credentials(client_ca=False)) as listener:
        assert await listener.call(world.client(None)) == b"anybody"
        assert await listener.call(world.client(world.envoy)) == b"anybody"


async def test_a_voucher_of_a_worker_is_not_believed_of_a_client(serving: Serving, world: World) -> None:
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
    serving: Serving, world: World, make: Callable[[World], Certificate] | None
) -> None:
    async with serving(world.credentials()) as listener:
        shown = None if make is None else make(world)
        assert await listener.call(world.client(shown)) is grpc.StatusCode.UNAVAILABLE
        assert await listener.call(world.client(world.envoy)) == b"authenticated", "and the next is served"


async def test_there_is_no_fall_back_to_plaintext(serving: Serving, world: World) -> None:
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
async def test_tls_is_of_version_1_2_and_up(serving: Serving, world: World, version: str, gets_in: bool) -> None:
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


async def test_only_those_on_its_list_may_call_a_service_and_refusals_are_counted(
    serving: Serving, world: World
) -> None:
    mesh = parse_allow_list(["spiffe://cluster.local/ns/istio-system/*"])
    async with serving(world.credentials(), {"access_log": mesh, "rate_limit": mesh}) as listener:
        methods = {LIMIT: ("rate_limit", b"authenticated")}
        if not listener.is_envoy:
            methods[STREAM] = ("access_log", b"2 True")
        for method, (service, answer) in methods.items():
            for client, ends in ((world.envoy, answer), (world.other, grpc.StatusCode.PERMISSION_DENIED)):
                assert await listener.call(world.client(client)) == b"authenticated"
                assert await listener.call(world.client(client), method) == ends
            assert await listener.call(world.client(world.other), method) is grpc.StatusCode.PERMISSION_DENIED
            assert await listener.refused(service, "not_allowed") == 2
        assert await listener.refused("ext_authz", "not_allowed") == 0


async def test_a_refused_peer_is_told_why_and_learns_no_list(serving: Serving, world: World) -> None:
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


async def test_health_and_reflection_have_lists_too_in_all_their_methods(serving: Serving, world: World) -> None:
    nobody = parse_allow_list(["nobody.example"])
    async with (
        serving(world.credentials(), {"health": nobody, "reflection": nobody}) as listener,
        listener.connected(world.client(world.envoy)) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        streams = [health.Watch(health_pb2.HealthCheckRequest()), reflection.ServerReflectionInfo(iter([asked]))]
        ends = grpc.StatusCode.UNIMPLEMENTED if listener.is_envoy else grpc.StatusCode.PERMISSION_DENIED
        assert await health.Check(health_pb2.HealthCheckRequest()).code() is grpc.StatusCode.PERMISSION_DENIED
        assert [await call.code() for call in streams] == [ends] * 2
        assert await health.List(health_pb2.HealthListRequest()).code() is grpc.StatusCode.UNIMPLEMENTED
        refused = [await listener.refused(service, "not_allowed") for service in ("health", "reflection")]
        assert refused == ([1, 0] if listener.is_envoy else [2, 1])
        assert await listener.call(world.client(world.envoy)) == b"authenticated"


async def test_those_who_may_are_answered_by_health_and_reflection(serving: Serving, world: World) -> None:
    mine = parse_allow_list([ENVOY])
    async with (
        serving(world.credentials(), {"health": mine, "reflection": mine}) as listener,
        listener.connected(world.client(world.envoy)) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
        if listener.is_envoy:  # which carries no streams
            return
        watching = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
        watching.cancel()
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([asked]))
        assert "grpc.health.v1.Health" in {one.name for one in (await call.read()).list_services_response.service}
        call.cancel()


async def test_a_certificate_that_expires_while_its_connection_lives_is_refused_from_then_on(
    serving: Serving, world: World
) -> None:
    async with serving(world.credentials()) as listener, listener.connected(world.client(world.envoy)) as channel:
        check = channel.unary_unary(CHECK)
        assert await check(b"", timeout=PATIENCE) == b"authenticated"
        await listener.do("let_pass", timedelta(days=2).total_seconds())
        assert await check(b"", timeout=PATIENCE).code() is grpc.StatusCode.PERMISSION_DENIED
        assert await listener.refused("ext_authz", "expired") == 1


async def test_who_resumes_a_session_is_judged_by_the_certificate_that_began_it(
    serving: Serving, world: World, monkeypatch
) -> None:
    """A ticket makes the next handshake one without certificates, for days: names and end must still be those.

    Envoy gives no tickets: it would not look at the end of a certificate, and an authority, once more.
    """
    resumed = []
    judge = GrpcioTls.judge

    def seen(self: GrpcioTls, service: str, context: grpc.aio.ServicerContext) -> bool:
        resumed.append(next(iter(context.auth_context()["ssl_session_reused"])))
        return judge(self, service, context)

    monkeypatch.setattr(GrpcioTls, "judge", seen)
    cache = session_cache.ssl_session_cache_lru(1)
    async with serving(world.credentials(), {"ext_authz": parse_allow_list(["other.example"])}) as listener:

        async def call() -> bytes | grpc.StatusCode:
            return await listener.call(world.client(world.other), cache=cache)

        assert [await call(), await call()] == [b"authenticated"] * 2
        await listener.renew(world.credentials(), {"ext_authz": parse_allow_list([ENVOY])})
        assert await call() is grpc.StatusCode.PERMISSION_DENIED
        await listener.do("let_pass", timedelta(days=2).total_seconds())
        assert await call() is grpc.StatusCode.PERMISSION_DENIED
        assert await listener.refused("ext_authz", "expired") == 1
        if listener.is_envoy:
            assert await listener.do("resumed") == 0
        else:
            assert resumed == [b"false", b"true", b"true", b"true"]
        stranger = Authority(world.folder, "new-authority").certificate.read_bytes()
        own = world.credentials()
        await listener.renew(Credentials(own.certificate, own.key, stranger), dict.fromkeys(SERVICES))
        await listener.do("let_pass", 0.0)

        async def stays_out() -> bool:
            return await call() is grpc.StatusCode.UNAVAILABLE

        await eventually(stays_out, "another client_ca ends all sessions")


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


async def test_a_renewed_certificate_is_shown_to_new_connections_and_old_ones_go_on(
    serving: Serving, world: World
) -> None:
    renewed = world.authority.issue("renewed")
    async with serving(world.credentials()) as listener, listener.connected(world.client(world.envoy)) as channel:
        check = channel.unary_unary(CHECK)
        assert await check(b"", timeout=PATIENCE) == b"authenticated"

        async def shows(name: str) -> None:
            async def look() -> bool:
                return await asyncio.to_thread(shown_by, listener.port, world) == name

            await eventually(look, f"new connections see {name}")

        await shows("server")
        await listener.renew(world.credentials(renewed))
        await shows("renewed")
        assert await check(b"", timeout=PATIENCE) == b"authenticated"
        await listener.renew(world.credentials())
        await shows("server")
        assert await check(b"", timeout=PATIENCE) == b"authenticated"


async def test_another_list_holds_from_the_next_call_of_a_living_connection_on(serving: Serving, world: World) -> None:
    async with serving(world.credentials()) as listener, listener.connected(world.client(world.other)) as channel:
        check = channel.unary_unary(CHECK)
        assert await check(b"", timeout=PATIENCE) == b"authenticated"
        await listener.renew(world.credentials(), listener.allowed | {"ext_authz": parse_allow_list([ENVOY])})
        assert await check(b"", timeout=PATIENCE).code() is grpc.StatusCode.PERMISSION_DENIED
        await listener.renew(world.credentials())
        assert await check(b"", timeout=PATIENCE) == b"authenticated"


def test_the_names_of_a_certificate_are_told_by_kind(world: World) -> None:
    shown = world.authority.issue("many", dns=["a.example"], uris=[ENVOY, "https://x/"], addresses=["10.0.0.1", "::1"])
    names = peer_of(shown.certificate.read_bytes()).names
    assert names.dns == ("a.example",)
    assert names.uris == (ENVOY, "https://x/")
    assert names.addresses == ("10.0.0.1", "::1")
    nameless = peer_of(world.authority.issue("nameless", addresses=()).certificate.read_bytes()).names
    assert (nameless.dns, nameless.uris, nameless.addresses) == ((), (), ())


def test_many_certificates_are_each_judged_by_their_own_names(world: World, monkeypatch) -> None:
    monkeypatch.setattr("mixer_py.transports.tls._MOST_KNOWN", 2)
    allowed = {"ext_authz": parse_allow_list([ENVOY])}
    tls = ListenerTls("127.0.0.1:1", world.credentials(), allowed, Registry(), Clock())
    for _ in range(2):
        for name in ("one", "two"):
            mine = world.authority.issue(name, uris=[ENVOY])
            assert tls.judge("ext_authz", mine.certificate.read_bytes())
        with pytest.raises(PermissionDeniedError):
            tls.judge("ext_authz", world.other.certificate.read_bytes())
    assert len(tls._known) <= 2


FORGED = 'By=spiffe://a;Hash=00;Cert="{certificate}";URI=' + ENVOY


async def test_a_word_of_the_callers_own_about_its_certificate_is_not_believed(serving: Serving, world: World) -> None:
    """As Envoy tells of it to the worker inside, and as proxies tell of it to services behind them."""
    quoted = world.envoy.certificate.read_text().replace("\n", "%0A").replace(" ", "%20").replace("+", "%2B")
    forged = (("x-forwarded-client-cert", FORGED.format(certificate=quoted)),) * 2
    stranger = (("x-forwarded-client-cert", FORGED.format(certificate="nonsense")),)
    async with serving(world.credentials(), {"ext_authz": parse_allow_list([ENVOY])}) as listener:
        async with listener.connected(world.client(world.other)) as channel:
            call = channel.unary_unary(CHECK)(b"", metadata=forged, timeout=PATIENCE)
            assert await call.code() is grpc.StatusCode.PERMISSION_DENIED
            assert "no name in its certificate" in (await call.details() or "")
        async with listener.connected(world.client(world.envoy)) as channel:
            for told in (forged, stranger):
                assert await channel.unary_unary(CHECK)(b"", metadata=told, timeout=PATIENCE) == b"authenticated"
        assert await listener.refused("ext_authz", "not_allowed") == 1
        assert await listener.refused("ext_authz", "unreadable") == 0
    async with (
        serving(world.credentials(client_ca=False)) as listener,
        listener.connected(world.client(None)) as channel,
    ):
        assert await channel.unary_unary(CHECK)(b"", metadata=forged, timeout=PATIENCE) == b"anybody"


async def test_a_certificate_with_many_names_and_odd_letters_is_read_whole(serving: Serving, world: World) -> None:
    names = [f"https://x.example/{number}/;Cert=,%22" for number in range(60)]
    many = world.authority.issue("full", dns=["many.example"], uris=[*names, ENVOY])
    async with serving(world.credentials(many), {"ext_authz": parse_allow_list(["many.example"])}) as listener:
        assert await listener.call(world.client(many)) == b"authenticated"
        assert await listener.call(world.client(world.envoy)) is grpc.StatusCode.PERMISSION_DENIED


async def test_a_refused_peer_is_refused_before_its_message_is_read(serving: Serving, world: World) -> None:
    async with (
        serving(world.credentials(), {"ext_authz": parse_allow_list([ENVOY])}) as listener,
        listener.connected(world.client(world.other)) as channel,
    ):
        call = channel.stream_unary(CHECK)(timeout=PATIENCE)
        assert await call.code() is grpc.StatusCode.PERMISSION_DENIED, "though it has sent nothing"


@pytest.mark.parametrize("folder", [TRANSPORTS[1]], indirect=True)
async def test_handshakes_that_fail_in_envoy_are_counted_by_their_reason(serving: Serving, world: World) -> None:
    async with serving(world.credentials()) as listener:
        for shown, reason in ((None, "no_certificate"), (of_another_authority(world), "bad_certificate")):
            assert await listener.call(world.client(shown)) is grpc.StatusCode.UNAVAILABLE
            assert await listener.do("failed", reason) >= 1
        assert await listener.do("failed", "protocol") == 0
        assert await listener.call(None) is grpc.StatusCode.UNAVAILABLE
        assert await listener.do("failed", "protocol") >= 1
        assert await listener.do("failed", "timeout") == 0


@pytest.mark.parametrize("folder", [TRANSPORTS[1]], indirect=True)
async def test_who_begins_no_handshake_is_cut_off_and_counted(serving: Serving, world: World) -> None:
    async with serving(world.credentials(), handshake="0.2s") as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
        assert await listener.do("failed", "timeout") == 1
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("folder", [TRANSPORTS[1]], indirect=True)
async def test_what_envoy_does_not_take_is_counted_and_what_was_there_stays(serving: Serving, world: World) -> None:
    async with serving(world.credentials()) as listener:
        assert await listener.do("not_taken") == 0
        own = world.credentials()
        await listener.renew(Credentials(b"nonsense", own.key, own.client_ca))

        async def is_counted() -> bool:
            return bool(await listener.do("not_taken") == 1)

        await eventually(is_counted, "a certificate that was not taken")
        assert await asyncio.to_thread(shown_by, listener.port, world) == "server"
        assert await listener.call(world.client(world.envoy)) == b"authenticated"

"""The OPA engine against a real OPA, and against a server that fails in every way an OPA can."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mixer_py.demo.processes import Ports
from mixer_py.errors import EvaluationError, PolicyLoadError, UndefinedDecisionError
from mixer_py.instruments import Registry
from mixer_py.policy.engines.opa import OpaEngine
from mixer_py.policy.policy import Policy
from mixer_py.policy.settings import OpaSettings, PolicySettings
from tests.parts.opa_server import Opa
from tests.parts.programs import Programs

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PATIENT = "60s"
"""For what must not time out on a busy machine."""

RULES = """package envoy.authz

allow := {"allowed": input.n == 9007199254740993.5, "n": input.n}
undefined if input.missing
conflict := 1 if input.n
conflict := 2 if input.n
no_builtin_error := to_number("x")
"""


@pytest.fixture(scope="module")
def opa(module_programs: Programs, ports: Ports) -> Iterator[Opa]:
    """A real one that holds the rules above."""
    server = Opa(module_programs, ports)
    with server.holding(RULES, "{}"):
        yield server
    server.close()


@asynccontextmanager
async def using(engine: OpaEngine) -> AsyncIterator[OpaEngine]:
    """An engine, closed afterwards."""
    try:
        yield engine
    finally:
        await engine.close()


@asynccontextmanager
async def serving(
    handler: Handler, *, socket: Path | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """A server that answers everything by `handler`; its URL."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        if socket is not None:
            await web.UnixSite(runner, str(socket)).start()
            yield f"unix://{socket}"
        else:
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
            await site.start()
            port = runner.addresses[0][1]
            yield f"http{'s' if tls else ''}://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def allow(_request: web.Request) -> web.StreamResponse:
    return web.json_response({"result": True})


def make_engine(url: str, registry: Registry | None = None, **settings: object) -> OpaEngine:
    return OpaEngine(OpaSettings(url=url, **{"timeout": PATIENT, **settings}), registry or Registry())


def errors(registry: Registry) -> dict[str, float]:
    """What was counted, by reason; without what is zero."""
    return {
        dict(series.labels)["reason"]: values[0]
        for series, values in registry.read()
        if series.name.startswith("mixer_opa_errors") and values[0]
    }


def gauge(registry: Registry) -> float:
    return next(values[0] for series, values in registry.read() if series.name == "mixer_opa_up")


@pytest.mark.opa
async def test_a_real_opa_decides_with_the_numbers_as_they_are(opa: Opa) -> None:
    async with using(make_engine(opa.url)) as engine:
        evaluation = await engine.evaluate("envoy/authz/allow", '{"n":9007199254740993.5}')
        assert evaluation.value["allowed"] is True
        assert evaluation.tier == "opa"
        other = await engine.evaluate("envoy/authz/allow", '{"n":9007199254740993.0}')
        assert other.value["allowed"] is False


@pytest.mark.opa
async def test_a_real_opa_is_undefined_or_fails_with_its_place(opa: Opa) -> None:
    registry = Registry()
    async with using(make_engine(opa.url, registry)) as engine:
        for decision in ("envoy/authz/undefined", "envoy/authz/no_builtin_error", "no/such"):
            with pytest.raises(UndefinedDecisionError):
                await engine.evaluate(decision, "{}")
        with pytest.raises(EvaluationError, match=r"500: policy\.rego:\d: .* produced conflicting values: 1 at policy"):
            await engine.evaluate("envoy/authz/conflict", '{"n":1}')
    assert errors(registry) == {"evaluation": 1}


@pytest.mark.opa
async def test_a_real_opa_is_healthy_until_it_is_not_asked_any_more(opa: Opa) -> None:
    registry = Registry()
    async with using(make_engine(opa.url, registry, health_interval="10ms")) as engine:
        assert gauge(registry) == 0
        engine.open()
        await _until(lambda: gauge(registry) == 1)
    assert gauge(registry) == 0


@pytest.mark.opa
async def test_an_opa_that_was_started_again_is_asked_again(programs: Programs, ports: Ports) -> None:
    """The connections that were kept are closed by then; no call pays for it."""
    server = Opa(programs, ports)
    async with using(make_engine(server.url)) as engine:
        with server.holding(RULES, "{}"):
            await engine.evaluate("envoy/authz/allow", '{"n":1}')
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        with server.holding(RULES, "{}"):
            assert (await engine.evaluate("envoy/authz/allow", '{"n":1}')).value["n"] == 1
    server.close()


async def _until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not look():
            await asyncio.sleep(0.01)


async def test_what_opa_gets_and_says_is_passed_on() -> None:
    seen: list[tuple[str, bytes, str]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append((request.raw_path, await request.read(), request.headers.get("authorization", "")))
        return web.json_response({"result": {"allowed": True}})

    async with serving(answer) as url, using(make_engine(url, token="secret")) as engine:
        assert (await engine.evaluate("a/b.c/d e", '{"n":1e400}')).value == {"allowed": True}
    assert seen == [("/v1/data/a/b.c/d%20e", b'{"input":{"n":1e400}}', "Bearer secret")]


async def test_one_connection_serves_many_decisions_and_many_wait_for_few() -> None:
    connections: set[object] = set()
    running, most = 0, 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal running, most
        connections.add(request.transport)
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return web.json_response({"result": True})

    async with serving(answer) as url, using(make_engine(url, connections=3)) as engine:
        for _ in range(5):
            await engine.evaluate("a", "{}")
        assert len(connections) == 1
        await asyncio.gather(*(engine.evaluate("a", "{}") for _ in range(20)))
    assert most == 3
    assert len(connections) == 3


async def test_a_slow_server_fails_within_the_timeout_and_nothing_else() -> None:
    released = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if b"slow" in await request.read():
            await released.wait()
        return web.json_response({"result": True})

    registry = Registry()
    async with serving(answer) as url, using(make_engine(url, registry, timeout="300ms")) as engine:
        slow = asyncio.create_task(engine.evaluate("a", '"slow"'))
        with pytest.raises(EvaluationError, match=r"did not answer within 0\.3 s"):
            await slow
        released.set()
    assert errors(registry) == {"timeout": 1}


async def test_waiting_for_a_connection_counts_too() -> None:
    released = asyncio.Event()

    async def answer(_request: web.Request) -> web.StreamResponse:
        await released.wait()
        return web.json_response({"result": True})

    async with serving(answer) as url, using(make_engine(url, timeout="300ms", connections=1)) as engine:
        asked = await asyncio.gather(*(engine.evaluate("a", "{}") for _ in range(3)), return_exceptions=True)
        released.set()
    assert all(isinstance(one, EvaluationError) and "did not answer" in str(one) for one in asked)


async def test_nobody_at_the_address(ports: Ports) -> None:
    registry = Registry()
    async with using(make_engine(f"http://127.0.0.1:{ports.take()}", registry, health_interval="10ms")) as engine:
        engine.open()
        with pytest.raises(EvaluationError, match="cannot be asked"):
            await engine.evaluate("a", "{}")
        await asyncio.sleep(0.05)
        assert gauge(registry) == 0
    assert errors(registry) == {"away": 1}


@pytest.mark.parametrize(
    ("status", "body", "words", "reason"),
    [
        (401, '{"code":"unauthorized","message":"request rejected"}', "answered 401: request rejected", "refused"),
        (400, '{"code":"invalid_parameter","message":"body"}', "answered 400: body", "refused"),
        (500, '{"code":"internal_error","message":"broken","errors":[]}', "answered 500: broken", "evaluation"),
        (307, "", "answered 307, and no JSON object", "unreadable"),
        (502, "<html>", "answered 502, and no JSON object", "unreadable"),
        (200, "[]", "answered 200, and no JSON object", "unreadable"),
        (200, '{"result":', "answered 200, and no JSON object", "unreadable"),
        (200, "", "answered 200, and no JSON object", "unreadable"),
    ],
)
async def test_other_answers_fail_with_opas_words(status: int, body: str, words: str, reason: str) -> None:
    asked = 0

    async def answer(_request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        elsewhere = {"location": "/elsewhere"} if status == 307 else None
        return web.Response(status=status, text=body, content_type="application/json", headers=elsewhere)

    registry = Registry()
    async with serving(answer) as url, using(make_engine(url, registry)) as engine:
        with pytest.raises(EvaluationError, match=words) as caught:
            await engine.evaluate("a", "{}")
    assert not isinstance(caught.value, UndefinedDecisionError)
    assert errors(registry) == {reason: 1}
    assert asked == 1


async def test_a_connection_that_breaks_is_tried_once_more_and_no_more() -> None:
    asked = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    registry = Registry()
    async with serving(answer) as url, using(make_engine(url, registry)) as engine:
        with pytest.raises(EvaluationError, match="cannot be asked"):
            await engine.evaluate("a", "{}")
    assert asked == 2
    assert errors(registry) == {"away": 1}


@pytest.mark.parametrize(("status", "healthy"), [(200, 1), (500, 0)])
async def test_health_is_what_the_server_says_of_itself(status: int, healthy: float) -> None:
    paths: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        paths.append(request.path_qs)
        return web.Response(status=status, text="{}")

    registry = Registry()
    async with serving(answer) as url, using(make_engine(url, registry, health_interval="10ms")) as engine:
        engine.open()
        await _until(lambda: len(paths) > 2)
        assert gauge(registry) == healthy
    assert set(paths) == {"/health?bundles=true"}


async def test_a_unix_socket(tmp_path: Path) -> None:
    async with serving(allow, socket=tmp_path / "opa.sock") as url, using(make_engine(url)) as engine:
        assert (await engine.evaluate("a", "{}")).value is True


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and its own certificate for 127.0.0.1 in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "opa")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "opa.pem"
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(pem + made.public_bytes(Encoding.PEM))
    return file


async def test_tls_trusts_what_it_is_told_to_and_nothing_else(certificate: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    async with serving(allow, tls=server) as url:
        async with using(make_engine(url, ca=str(certificate))) as engine:
            assert (await engine.evaluate("a", "{}")).value is True
        async with using(make_engine(url)) as engine:
            with pytest.raises(EvaluationError, match="certificate verify failed"):
                await engine.evaluate("a", "{}")


@pytest.mark.parametrize("keys", [{"token": {"file": "no"}}, {"ca": "no", "url": "https://opa"}])
async def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path, keys: dict[str, object]) -> None:
    absent = str(tmp_path / "no")
    keys = {
        key: ({"file": absent} if key == "token" else absent if key == "ca" else value) for key, value in keys.items()
    }
    with pytest.raises(PolicyLoadError, match="cannot be read") as caught:
        Policy.load(PolicySettings(engine="opa", opa=keys))
    assert caught.value.faults[0].file == absent


async def test_closing_waits_for_what_runs_and_then_nothing_runs() -> None:
    released, asked = asyncio.Event(), asyncio.Event()

    async def answer(_request: web.Request) -> web.StreamResponse:
        asked.set()
        await released.wait()
        return web.json_response({"result": True})

    async with serving(answer) as url:
        engine = make_engine(url)
        running = asyncio.create_task(engine.evaluate("a", "{}"))
        await asked.wait()
        closing = asyncio.create_task(engine.close())
        await asyncio.sleep(0)
        assert not closing.done()
        released.set()
        assert (await running).value is True
        await closing
        with pytest.raises(EvaluationError, match="closed"):
            await engine.evaluate("a", "{}")


async def test_the_whole_input_is_needed_and_nothing_is_kept() -> None:
    policy = Policy.load(PolicySettings(engine="opa"))
    explanation = policy.points[-1].explain()
    assert (explanation.tier, explanation.reads, explanation.cached) == ("opa", None, False)
    assert "OPA server" in explanation.why
    assert policy.describe()["opa"] == "http://127.0.0.1:8181"
    assert orjson.dumps(policy.describe())
    await policy.close()


def test_another_server_is_another_revision() -> None:
    here = Policy.load(PolicySettings(engine="opa"))
    there = Policy.load(PolicySettings(engine="opa", opa={"url": "http://opa:8181"}))
    assert len({here.revision, there.revision, Policy.load(PolicySettings()).revision}) == 3

"""Two clients of gRPC that share no code, grpcio and grpc-go, see one and the same service, whatever carries it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitResponse
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from mixer_py.demo.processes import Ports
from tests.interoperability.conftest import Service, everywhere
from tests.interoperability.faulty_service import LIMITS, LONG_ANSWER, OBEY
from tests.parts.callers import limit_request
from tests.parts.grpc_client import check_request
from tests.parts.mixer_process import Mixer
from tests.parts.programs import Programs
from tests.parts.two_clients import Calls, by_both

pytestmark = pytest.mark.go_client

OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 0, 1, 2, 3, 4, 5
RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 8, 12, 13, 14
POLICY = """
package envoy.authz

allow := input.parsed_path[0] == "allowed"
"""
LIMITED = """
domain: mesh
descriptors:
  - key: tenant
    value: acme
    descriptors:
      - key: service
        rate_limit: {unit: day, requests_per_unit: 0}
"""
LARGEST = b"x" * LIMITS.max_message_bytes
CASES = {
    "good": (Calls(OBEY, b"hello"), {OK}),
    "empty": (Calls(OBEY, b""), {OK}),
    "largest message": (Calls(OBEY, LARGEST), {OK}),
    "oversized message": (Calls(OBEY, LARGEST + b"x"), {RESOURCE_EXHAUSTED}),
    "gzip": (Calls(OBEY, b"hello" * 1000, gzip=True), {OK}),
    "oversized once decompressed": (Calls(OBEY, LARGEST + b"x", gzip=True), {RESOURCE_EXHAUSTED}),
    "metadata": (Calls(OBEY, b"x", metadata=LIMITS.max_metadata_bytes - 1024), {OK}),
    "oversized metadata": (Calls(OBEY, b"x", metadata=20_000), {RESOURCE_EXHAUSTED, INTERNAL}),
    "unknown method": (Calls("/mixer.test.Faulty/No", b"x"), {UNIMPLEMENTED}),
    "unknown service": (Calls("/no.Service/Obey", b"x"), {UNIMPLEMENTED}),
    "error": (Calls(OBEY, b"error with a status"), {UNKNOWN}),
    "bug": (Calls(OBEY, b"KeyError"), {INTERNAL}),
    "panic": (Calls(OBEY, b"NativePanic"), {INTERNAL}),
    "exit": (Calls(OBEY, b"SystemExit"), {INTERNAL}),
    "no reply": (Calls(OBEY, b"no reply"), {INTERNAL}),
    "deadline": (Calls(OBEY, b"sleep", timeout=300), {DEADLINE_EXCEEDED}),
    "cancelled": (Calls(OBEY, b"sleep", cancel=300), {CANCELLED}),
    "many at once": (Calls(OBEY, b"x", calls=300), {OK}),
    "more than are let in": (Calls(OBEY, b"x", calls=3000), {OK, UNAVAILABLE}),
    "slow reader": (Calls(OBEY, b"a long answer", calls=50, stream=True, pause=500), {OK}),
}


IN_OWN_WORDS = {"deadline", "cancelled", "oversized metadata", "more than are let in"}
"""Cases that a client may end by itself, or that end in more than one way."""


@everywhere
@pytest.mark.parametrize("case", CASES)
def test_calls_end_alike_for_both(service: Service, case: str) -> None:
    asked, codes = CASES[case]
    own = service.certificates
    files = () if own is None else (own.authority.certificate, own.own.certificate, own.own.key)
    with service.channel() as channel:
        endings = by_both(service.address, channel, files, asked, Calls(OBEY, b"next"))
    for ended in endings:
        assert set(ended.codes) <= codes
        assert ended.codes.total() == asked.calls
        assert len(ended.answers) == ended.codes[OK]
        assert set(ended.answers) <= {LONG_ANSWER if case == "slow reader" else asked.message}
    if case not in IN_OWN_WORDS:
        assert len({ended.details for ended in endings}) == 1


@pytest.fixture(scope="module")
def mixer(
    tmp_path_factory: pytest.TempPathFactory, make_programs: Callable[[Path], Programs], ports: Ports
) -> Iterator[Mixer]:
    folder = tmp_path_factory.mktemp("mixer")
    with make_programs(folder) as programs:
        mixer = Mixer(programs, ports, folder)
        mixer.write("policy.rego", POLICY)
        mixer.write("limits.yaml", LIMITED)
        mixer.use_both()
        limits = {"config": ["limits.yaml"], "timeout": "10s"}
        mixer.configure({"policy": {"bundles": ["policy.rego"]}, "rate_limit": limits})
        mixer.start()
        yield mixer


def check(path: str, **more: int) -> Calls:
    return Calls("/envoy.service.auth.v3.Authorization/Check", check_request(path).SerializeToString(), **more)


def limit(tenant: str) -> Calls:
    method = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
    return Calls(method, limit_request(tenant).SerializeToString())


def health(service: str) -> Calls:
    return Calls("/grpc.health.v1.Health/Check", HealthCheckRequest(service=service).SerializeToString())


REFLECTION = Calls(
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ServerReflectionRequest(list_services="").SerializeToString(),
    stream=True,
)
ANSWERED = {
    "allowed": (check("/allowed"), lambda answer: CheckResponse.FromString(answer).status.code, {0}),
    "denied": (check("/denied"), lambda answer: CheckResponse.FromString(answer).status.code, {7}),
    "compressed": (check("/allowed", gzip=True), lambda answer: CheckResponse.FromString(answer).status.code, {0}),
    "many": (check("/allowed", calls=100), lambda answer: CheckResponse.FromString(answer).status.code, {0}),
    "under the limit": (limit("other"), lambda answer: RateLimitResponse.FromString(answer).overall_code, {1}),
    "over the limit": (limit("acme"), lambda answer: RateLimitResponse.FromString(answer).overall_code, {2}),
    "health": (health(""), lambda answer: HealthCheckResponse.FromString(answer).status, {1}),
}


@pytest.fixture(params=["grpcio", pytest.param("envoy", marks=pytest.mark.envoy)])
def address(request: pytest.FixtureRequest, mixer: Mixer) -> str:
    return mixer.address if request.param == "grpcio" else mixer.second


@pytest.mark.parametrize("case", ANSWERED)
def test_a_mixer_answers_both_alike(address: str, case: str) -> None:
    asked, read, wanted = ANSWERED[case]
    with grpc.insecure_channel(address) as channel:
        for ended in by_both(address, channel, (), asked, health("")):
            assert ended.codes == {OK: asked.calls}
            assert {read(answer) for answer in ended.answers} == wanted


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (Calls(check("").method, b"\xff" * 30), INVALID_ARGUMENT),
        (Calls(limit("").method, b"\xff" * 30), INVALID_ARGUMENT),
        (Calls(check("").method, b"x" * (4 << 20) + b"x"), RESOURCE_EXHAUSTED),
        (Calls("/envoy.service.auth.v2.Authorization/Check"), UNIMPLEMENTED),
        (health("no.Service"), NOT_FOUND),
    ],
    ids=["no check", "no limit", "oversized", "unknown method", "health of nobody"],
)
def test_a_mixer_refuses_both_alike(address: str, asked: Calls, code: int) -> None:
    with grpc.insecure_channel(address) as channel:
        grpcio, go = by_both(address, channel, (), asked, health(""))
    assert grpcio == go
    assert grpcio.codes == {code: 1}


def test_reflection_tells_both_of_the_same_services(mixer: Mixer) -> None:
    """Its method is a stream, and so grpcio's alone."""
    with grpc.insecure_channel(mixer.address) as channel:
        grpcio, go = by_both(mixer.address, channel, (), REFLECTION, health(""))
    assert grpcio == go
    (told,) = (ServerReflectionResponse.FromString(answer) for answer in go.answers)
    assert "envoy.service.auth.v3.Authorization" in {one.name for one in told.list_services_response.service}

"""What real policies do to a real mixer, as the wire shows it: nonsense, a panic of the engine, a loop without end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from mixer_py.demo.processes import Ports
from tests.parts.grpc_client import check_request
from tests.parts.mixer_process import Mixer, eventually
from tests.parts.programs import Programs
from tests.parts.raw_grpc import ConnectionGoneError, Reply, message, raw

CHECK = "/envoy.service.auth.v3.Authorization/Check"
LIMIT = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
UNKNOWN, INVALID_ARGUMENT = 2, 3
POLICY = """
package envoy.authz

import rego.v1

default allow := true

allow := false if {
    input.parsed_path[0] == "panic"
    word := input.parsed_query.q[0]
    time.parse_ns(word, word) > 0
}

allow := false if {
    input.parsed_path[0] == "loop"
    count([1 | some i in numbers.range(1, 10000); some j in numbers.range(1, 10000); i * j == 0]) > 0
}
"""


@pytest.fixture(scope="module", params=["grpcio", pytest.param("envoy", marks=pytest.mark.envoy)])
def mixer(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    make_programs: Callable[[Path], Programs],
    ports: Ports,
) -> Mixer:
    folder = tmp_path_factory.mktemp("mixer")
    with make_programs(folder) as programs:
        mixer = Mixer(programs, ports, folder)
        mixer.write("policy.rego", POLICY)
        listener = {"address": mixer.address, "transport": request.param, "services": ["ext_authz", "rate_limit"]}
        policy = {"bundles": ["policy.rego"], "max_stall": "500ms", "cache": {"entries": 0}}
        mixer.configure({"policy": policy, "server": {"listeners": [listener]}})
        mixer.start()
        yield mixer


def checked(mixer: Mixer, path: str) -> Reply:
    with raw(mixer.address) as connection:
        return connection.call(CHECK, message(check_request(path).SerializeToString()))


def is_answered(mixer: Mixer) -> bool:
    try:
        return checked(mixer, "/").status == 0
    except (ConnectionGoneError, OSError):
        return False


@pytest.mark.parametrize("method", [CHECK, LIMIT])
@pytest.mark.parametrize("junk", [b"\xff" * 30, b"\x0a\x7f", b"\x00"], ids=["ones", "cut", "field 0"])
def test_bytes_that_are_no_message_are_an_invalid_argument(mixer: Mixer, method: str, junk: bytes) -> None:
    with raw(mixer.address) as connection:
        reply = connection.call(method, message(junk))
    assert (reply.status, reply.body) == (INVALID_ARGUMENT, b"")
    assert is_answered(mixer)


def test_a_panic_of_the_engine_ends_its_call_alone(mixer: Mixer) -> None:
    worker = mixer.metric("mixer_worker_restarts_total")
    reply = checked(mixer, "/panic?q=%C3%A9")
    assert (reply.status, reply.body) == (UNKNOWN, b"")
    assert "Traceback" not in reply.details
    assert is_answered(mixer)
    assert mixer.metric("mixer_worker_restarts_total") == worker


def test_a_loop_without_end_is_no_success_and_the_worker_is_replaced(mixer: Mixer) -> None:
    before = mixer.metric("mixer_worker_restarts_total", reason="stalled")
    with suppress(ConnectionGoneError):  # the call ends with its worker
        assert not checked(mixer, "/loop").reads_as_success
    eventually(lambda: is_answered(mixer), "answers by another worker")
    assert mixer.metric("mixer_worker_restarts_total", reason="stalled") == before + 1

"""A worker that dies, or whose loop is stuck, in a real mixer, and a reply that is cut off: none of their calls is a
success, the worker is replaced, and later calls work."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path

import grpc
import pytest

from mixer_py.demo.processes import Ports
from tests.parts.envoy_proxy import EnvoyProxy
from tests.parts.grpc_client import Client, check_request, connect
from tests.parts.inside import Inside
from tests.parts.mixer_process import Mixer, eventually
from tests.parts.presence import ROOT
from tests.parts.programs import Programs
from tests.parts.raw_grpc import ConnectionGoneError, RawConnection, message, raw
from tests.parts.tcp_proxy import SlowProxy
from tests.parts.upstream import Upstream

CHECK = "/envoy.service.auth.v3.Authorization/Check"
DEADLY = {"PYTHONPATH": str(ROOT / "tests" / "parts" / "deadly_builtin")}
FAULTS = [("exit", "exited"), ("sleep", "hung"), ("spin", "stalled")]
"""What a builtin does, and why the worker is replaced then."""
POLICY = """
package envoy.authz

import rego.v1

default allow := true

allow := semver.is_valid(input.parsed_query.word[0]) if input.parsed_path[0] == "deadly"

line := concat("", ["%s" | some _ in numbers.range(1, 200)])

allow := {"allowed": false, "body": concat("", [line | some _ in numbers.range(1, 200)])} if {
    input.parsed_path[0] == "large"
}

allow := {"allowed": true, "headers": {"x-long": concat("", [line | some _ in numbers.range(1, 10)])}} if {
    input.parsed_path[0] == "long"
}
""" % ("x" * 10)
LARGE = 400_000
"""Bytes of the body of that answer: more than buffers on the way take in."""
LONG = 20_000
"""Bytes of a header that another answer has the upstream see."""
CUT = 1000
ROOMS = {"policy": {"bundles": ["policy.rego"], "max_stall": "500ms", "cache": {"entries": 0}}}


@pytest.fixture(scope="module")
def make(
    tmp_path_factory: pytest.TempPathFactory, make_programs: Callable[[Path], Programs], ports: Ports
) -> Callable[[], Mixer]:
    with ExitStack() as stack:

        def make() -> Mixer:
            folder = tmp_path_factory.mktemp("mixer")
            mixer = Mixer(stack.enter_context(make_programs(folder)), ports, folder)
            mixer.write("policy.rego", POLICY)
            mixer.environment = DEADLY
            return mixer

        yield make


@pytest.fixture(scope="module", params=["grpcio", pytest.param("envoy", marks=pytest.mark.envoy)])
def mixer(request: pytest.FixtureRequest, make: Callable[[], Mixer]) -> Mixer:
    mixer = make()
    listener = {"address": mixer.address, "transport": request.param, "services": ["ext_authz", "rate_limit", "health"]}
    mixer.configure({**ROOMS, "server": {"listeners": [listener], "max_hang": "3s"}})
    mixer.start()
    return mixer


def begin(connection: RawConnection, path: str) -> int:
    stream = connection.open(CHECK)
    connection.send(stream, message(check_request(path).SerializeToString()))
    return stream


def is_answered(mixer: Mixer) -> bool:
    try:
        with raw(mixer.address) as connection:
            return connection.reply(begin(connection, "/")).status == 0
    except (ConnectionGoneError, OSError):
        return False


@pytest.mark.parametrize(("word", "reason"), FAULTS)
def test_its_calls_end_without_success_and_later_ones_are_answered(mixer: Mixer, word: str, reason: str) -> None:
    eventually(lambda: is_answered(mixer), "a ready mixer")
    before = mixer.metric("mixer_worker_restarts_total", reason=reason)
    with raw(mixer.address) as connection:
        stream = begin(connection, f"/deadly?word={word}")
        with pytest.raises(ConnectionGoneError):  # the call ends with the worker, and no status comes before
            connection.reply(stream)
        assert not connection.replies[stream].reads_as_success
    eventually(lambda: is_answered(mixer), "answers by another worker")
    assert mixer.metric("mixer_worker_restarts_total", reason=reason) == before + 1


def test_a_reply_that_a_killed_worker_has_sent_in_part_is_no_success(mixer: Mixer) -> None:
    eventually(lambda: is_answered(mixer), "a ready mixer")
    with raw(mixer.address, window=CUT) as connection:
        stream = begin(connection, "/large")
        reply = connection.replies[stream]
        connection.until(lambda: len(reply.body) == CUT)
        os.kill(mixer.worker(), signal.SIGKILL)
        with pytest.raises(ConnectionGoneError):
            connection.reply(stream)
        assert int.from_bytes(reply.body[1:5], "big") > LARGE, "it had begun a whole message"
        assert not reply.reads_as_success
    eventually(lambda: is_answered(mixer), "answers by another worker")


def is_told_all(client: Client) -> bool:
    try:
        return len(client.check(check_request("/large")).denied_response.body) == LARGE
    except grpc.RpcError:
        return False


def test_to_a_client_of_grpc_a_reply_that_is_cut_off_is_unavailable_and_later_calls_work(mixer: Mixer) -> None:
    eventually(lambda: is_answered(mixer), "a ready mixer")
    with SlowProxy(mixer.grpc) as proxy, connect(f"127.0.0.1:{proxy.port}") as client:
        assert len(client.check(check_request("/large")).denied_response.body) == LARGE
        proxy.cut_after = LARGE // 2
        with pytest.raises(grpc.RpcError) as failure:
            client.check(check_request("/large"))
        assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
        proxy.cut_after = None
        eventually(lambda: is_told_all(client), "a whole answer")  # the client may try its old connection first


@pytest.mark.envoy
def test_an_envoy_lets_no_request_through_by_an_answer_that_is_cut_off(
    mixer: Mixer, programs: Programs, ports: Ports, upstream: Upstream
) -> None:
    eventually(lambda: is_answered(mixer), "a ready mixer")
    with SlowProxy(mixer.grpc) as proxy:
        envoy = EnvoyProxy(programs, ports, mixer=proxy.port, upstream=upstream.port)
        envoy.start()
        assert len(envoy.request("/long").body) > LONG
        proxy.cut_after = LONG // 2
        assert envoy.request("/long").status == 403, "what it says itself when mixer fails"
        proxy.cut_after = None
        eventually(lambda: envoy.request("/long").status == 200, "an answer over another connection")


@pytest.fixture(scope="module")
def inside(make: Callable[[], Mixer], ports: Ports, upstream: Upstream) -> Inside:
    inside = Inside(make(), ports, upstream)
    inside.write_bootstrap()
    inside.mixer.configure({**ROOMS, "server": {**inside.server, "max_hang": "3s"}})
    inside.mixer.start()
    return inside


def status(inside: Inside, path: str) -> int | None:
    """HTTP's, or None when the connection ends before there is one."""
    try:
        return inside.request(path).status
    except (HTTPException, OSError):
        return None


@pytest.mark.envoy
@pytest.mark.parametrize(("word", "reason"), FAULTS)
def test_inside_the_data_plane_no_request_is_let_through_by_it(inside: Inside, word: str, reason: str) -> None:
    eventually(lambda: status(inside, "/reviews") == 200, "a ready mixer")
    before = inside.mixer.metric("mixer_worker_restarts_total", reason=reason)
    assert status(inside, f"/deadly?word={word}") is None  # the Envoy that carries it ends with the worker
    eventually(lambda: status(inside, "/reviews") == 200, "requests through another Envoy")
    assert inside.mixer.metric("mixer_worker_restarts_total", reason=reason) == before + 1

"""Several workers inside Envoys at one address: they count as one, fail alone, and are seen by their loops alone."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from envoy.service.ratelimit.v3 import rls_pb2

from mixer_py.demo.processes import accepts
from tests.end_to_end.conftest import LOOPING
from tests.parts.callers import limit_request
from tests.parts.grpc_client import Client, check_request, connect
from tests.parts.mixer_process import Mixer, eventually, is_running

pytestmark = [pytest.mark.envoy, pytest.mark.valkey]

WORKERS = 2
CONNECTIONS = 12
OVER = rls_pb2.RateLimitResponse.OVER_LIMIT


@pytest.fixture(scope="module")
def mixer(make_module_mixer) -> Mixer:
    mixer = make_module_mixer(LOOPING)
    mixer.use_envoy()
    mixer.configure(
        {
            "policy": {"bundles": ["policy"], "max_stall": "500ms"},
            "rate_limit": {"config": ["limits.yaml"], "timeout": "10s"},
            "server": {"workers": WORKERS},
        }
    )
    mixer.start()
    return mixer


@pytest.fixture
def clients(mixer: Mixer):
    mixer.workers(WORKERS)
    eventually(lambda: mixer.get("/healthz/ready").status == 200, "all workers")
    with ExitStack() as stack:
        yield [stack.enter_context(connect(mixer.address)) for _ in range(CONNECTIONS)]


def checks(client: Client) -> bool:
    try:
        return client.check(check_request()).status.code == 0
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False


def is_replaced(mixer: Mixer, worker: int) -> bool:
    return not is_running(worker) and mixer.get("/healthz/ready").status == 200


def test_connections_come_to_both_and_limits_are_exact_over_them(mixer: Mixer, clients: list[Client]):
    assert all(checks(client) for client in clients)
    eventually(lambda: min(mixer.connections().values()) > 0, "connections to each worker")
    codes = [clients[index % CONNECTIONS].limit(limit_request("acme")).overall_code for index in range(CONNECTIONS)]
    assert codes.count(OVER) == CONNECTIONS - 3


def test_a_second_mixer_on_the_port_is_refused(mixer: Mixer, make_mixer, tmp_path: Path):
    second: Mixer = make_mixer()
    listener = {"address": mixer.address, "transport": "envoy"}
    second.configure({"server": {"listeners": [listener], "socket": str(tmp_path / "second.sock")}})
    program = second.start(ready=False)
    assert program.wait(60) == 1
    assert f"cannot listen on {mixer.address}" in program.tail()


def test_a_killed_worker_fails_alone(mixer: Mixer, clients: list[Client]):
    assert all(checks(client) for client in clients)
    before, worker = mixer.metric("mixer_checks_total"), mixer.workers(WORKERS)[0]
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: is_replaced(mixer, worker), "another worker")
    assert all(eventually(lambda client=client: checks(client), "checks again") for client in clients)
    assert mixer.metric("mixer_checks_total") >= before + CONNECTIONS


def test_a_loop_that_stalls_is_replaced_though_its_port_accepts(mixer: Mixer, clients: list[Client]):
    stalled = mixer.metric("mixer_worker_restarts_total", reason="stalled")
    before = set(mixer.workers(WORKERS))
    with pytest.raises(grpc.RpcError) as failure:
        clients[0].check(check_request("/loop"))
    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
    eventually(lambda: mixer.metric("mixer_worker_restarts_total", reason="stalled") == stalled + 1, "a restart")
    assert len(before & set(mixer.workers(WORKERS))) == WORKERS - 1


def test_a_loop_that_stands_still_is_replaced_though_its_port_accepts(mixer: Mixer, clients: list[Client]):
    assert all(checks(client) for client in clients)
    worker = mixer.workers(WORKERS)[0]
    os.kill(worker, signal.SIGSTOP)
    assert accepts(mixer.grpc)
    eventually(lambda: is_replaced(mixer, worker), "another worker")  # SIGTERM did not reach it, SIGKILL does
    assert mixer.metric("mixer_worker_restarts_total", reason="hung") == 1
    assert all(eventually(lambda client=client: checks(client), "checks again") for client in clients)

"""Several workers at one address: they count as one, fail alone, reload together, and nothing of them stays."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.service.ratelimit.v3 import rls_pb2

from tests.parts.callers import Callers, OnAndOn, limit_request
from tests.parts.grpc_client import Client, check_request, connect
from tests.parts.mixer_process import VALKEY, Mixer, child_processes, command_line, eventually, is_running

pytestmark = pytest.mark.valkey

WORKERS = 3
CONNECTIONS = 18
MANY = 1_000_000
LIMITS = f"""
domain: mesh
descriptors:
  - key: tenant
    value: few
    rate_limit: {{unit: day, requests_per_unit: 100}}
  - key: tenant
    rate_limit: {{unit: day, requests_per_unit: {MANY}}}
"""
OVER = rls_pb2.RateLimitResponse.OVER_LIMIT


def policy(version: str) -> str:
    return f'package envoy.authz\n\nallow := {{"allowed": true, "headers": {{"x-version": "{version}"}}}}\n'


def asking(tenant: str, hits: int = 1) -> rls_pb2.RateLimitRequest:
    request = rls_pb2.RateLimitRequest(domain="mesh")
    descriptor = request.descriptors.add()
    descriptor.entries.add(key="tenant", value=tenant)
    descriptor.hits_addend.value = hits
    return request


def charged(client: Client, tenant: str) -> int:
    """What is counted of a tenant with many hits, by a look."""
    return MANY - client.limit(asking(tenant, 0)).statuses[0].limit_remaining


def answers(client: Client) -> bool:
    """Whether limits are told, by a look at somebody else's."""
    try:
        return bool(client.limit(asking("nobody", 0)).statuses)
    except grpc.RpcError:
        return False


@pytest.fixture
def make_workers(make_mixer):
    def make(workers: int = WORKERS, rego: str = policy("0"), **rate_limit: Any) -> Mixer:
        mixer: Mixer = make_mixer(rego)
        mixer.write("limits.yaml", LIMITS)
        # A machine that runs a whole test suite answers late now and then.
        counting = {"config": ["limits.yaml"], "timeout": "10s", **rate_limit}
        policy_settings = {"bundles": ["policy"], "max_stall": "60s"}
        mixer.configure({"policy": policy_settings, "rate_limit": counting, "server": {"workers": workers}})
        return mixer

    return make


class Chargers(OnAndOn):
    """Threads with a connection each that charge a tenant until they are told to end; a call may fail."""

    def __init__(self, address: str, tenant: str, connections: int = CONNECTIONS) -> None:
        self.admitted = 0
        self.refused = 0
        self.lost: Counter[grpc.StatusCode] = Counter()
        self._address = address
        self._tenant = tenant
        self._lock = threading.Lock()
        super().__init__([self._charge] * connections)

    @property
    def asked(self) -> int:
        return self.admitted + self.refused + sum(self.lost.values())

    def _charge(self) -> None:
        with connect(self._address) as client:
            eventually(lambda: answers(client), "a connection")  # on a busy machine not at the first attempt
            while not self._done.is_set():
                try:
                    over = client.limit(asking(self._tenant)).overall_code == OVER
                except grpc.RpcError as error:
                    with self._lock:
                        self.lost[error.code()] += 1
                    time.sleep(0.05)
                    continue
                with self._lock:
                    self.admitted += not over
                    self.refused += over


def test_limits_are_exact_over_all_workers(make_workers):
    mixer = make_workers()
    mixer.start()
    mixer.workers(WORKERS)
    with Chargers(mixer.address, "few") as chargers:
        eventually(lambda: sum(mixer.connections().values()) >= CONNECTIONS, "every connection")
        spread = mixer.connections()
        eventually(lambda: chargers.refused >= 200, "many answers over the limit")
    assert chargers.admitted == 100
    assert not chargers.lost
    assert sum(count > 0 for count in spread.values()) > 1, spread
    assert mixer.metric("mixer_rate_limits_total", rule="mesh/tenant=few") == chargers.asked, "one /metrics for all"
    assert mixer.metric("mixer_rate_limits_total", rule="mesh/tenant=few", code="OK") == 100


def test_a_killed_and_a_hung_worker_cost_the_calls_they_held_and_no_count(make_workers):
    mixer = make_workers()
    mixer.start()
    killed, stopped, _ = mixer.workers(WORKERS)
    with Chargers(mixer.address, "busy") as chargers:
        eventually(lambda: chargers.admitted >= 100, "100 hits")
        held = mixer.connections()[killed]
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: mixer.metric("mixer_worker_restarts_total", reason="killed") == 1, "a replaced worker")
        lost_by_kill = sum(chargers.lost.values())
        eventually(lambda: killed not in mixer.workers(WORKERS), "three workers again")
        os.kill(stopped, signal.SIGSTOP)
        before = chargers.admitted
        eventually(lambda: chargers.admitted >= before + 100, "hits by the others")
        eventually(lambda: mixer.metric("mixer_worker_restarts_total", reason="hung") == 1, "a replaced worker")
        eventually(lambda: mixer.get("/healthz/ready").status == 200, "all workers listen again")
        before = chargers.admitted
        eventually(lambda: chargers.admitted >= before + 100, "hits by all")
    assert lost_by_kill <= held, "each connection held one call"
    assert set(chargers.lost) <= {grpc.StatusCode.UNAVAILABLE}
    with connect(mixer.address) as client:
        counted = charged(client, "busy")
    # What a dead worker had charged for a call that it never answered is charged.
    assert chargers.admitted <= counted <= chargers.admitted + sum(chargers.lost.values())
    assert mixer.metric("mixer_worker_restarts_total", process="valkey") == 0


@pytest.mark.parametrize(
    ("on_error", "outcome"), [("error", grpc.StatusCode.UNAVAILABLE), ("allow", False), ("deny", True)]
)
def test_without_valkey_calls_are_answered_by_on_error_and_counting_begins_anew(make_workers, on_error, outcome):
    mixer = make_workers(2, on_error=on_error, timeout="1s")
    mixer.start()
    before = mixer.valkey()

    def ask() -> bool | grpc.StatusCode:
        try:
            return client.limit(asking("busy", 5)).overall_code == OVER
        except grpc.RpcError as error:
            return error.code()

    with connect(mixer.address) as client:
        assert ask() is False
        os.kill(before, signal.SIGSTOP)
        assert ask() == outcome, "no answer within rate_limit.timeout"
        assert ask() == outcome, "at once"
        with suppress(ProcessLookupError):  # on a slow machine it is replaced as hung by now
            os.kill(before, signal.SIGKILL)
        eventually(lambda: mixer.metric("mixer_worker_restarts_total", process="valkey") == 1, "another Valkey")
        assert mixer.valkey() != before
        eventually(lambda: mixer.metric("mixer_counter_store_up") == 2, "both workers count again")
        assert ask() is False
        assert charged(client, "busy") == 5
    assert "counters of rate limits start anew" in mixer.running.tail()
    assert mixer.metric("mixer_worker_restarts_total", process="worker") == 0


def test_a_hung_valkey_is_replaced(make_workers):
    mixer = make_workers(2)
    mixer.start()
    hung = mixer.valkey()
    os.kill(hung, signal.SIGSTOP)
    eventually(lambda: mixer.metric("mixer_worker_restarts_total", process="valkey", reason="hung") == 1, "another")
    assert not is_running(hung)
    with connect(mixer.address) as client:
        eventually(lambda: answers(client), "counts by the other")


def test_valkey_can_be_reached_by_this_user_through_its_socket_only(make_workers):
    mixer = make_workers(2)
    mixer.start()
    path = Path(command_line(mixer.valkey())[0].partition("unixsocket:")[2].strip())
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(b"CONFIG GET port save appendonly maxmemory-policy\r\n")
        told = connection.recv(4096).split(b"\r\n")
    settings = dict(zip(told[2::4], told[4::4], strict=False))
    assert settings == {b"port": b"0", b"save": b"", b"appendonly": b"no", b"maxmemory-policy": b"noeviction"}


def test_without_limits_no_valkey_is_started_until_a_reload_names_some(make_workers):
    mixer = make_workers(2)
    whole = mixer.file.read_text()
    mixer.configure({"policy": {"bundles": ["policy"]}, "server": {"workers": 2}})
    mixer.start()
    assert mixer.children(VALKEY) == []
    mixer.reload(lambda: mixer.write("mixer.yaml", whole))
    mixer.valkey()
    with connect(mixer.address) as one, connect(mixer.address) as other:
        one.limit(asking("busy", 3))
        other.limit(asking("busy", 4))
        assert charged(one, "busy") == charged(other, "busy") == 7


def test_a_reload_reaches_all_workers_and_no_call_sees_two_revisions(make_workers):
    mixer = make_workers()
    mixer.start()
    with ExitStack() as stack:
        crowd = [stack.enter_context(Callers(mixer.address)) for _ in range(3)]
        for version in ("0", "1", "2", "3"):
            if version != "0":
                mixer.reload(lambda version=version: mixer.write("policy/policy.rego", policy(version)))
            for callers in crowd:
                eventually(lambda: callers.seen[version] >= 10, f"10 answers by {version}")  # noqa: B023 (at once)
    for callers in crowd:
        assert [str(failure) for failure in callers.failures] == []
        assert set(callers.seen) == {"0", "1", "2", "3"}
        assert {len(revisions) for revisions in callers.revisions.values()} == {1}
    with connect(mixer.address) as client:
        status = client.limit(limit_request("busy")).statuses[0]
    assert status.code != OVER


def test_a_faulty_reload_leaves_every_worker_with_what_it_had(make_workers):
    mixer = make_workers()
    mixer.start()
    mixer.write("policy/policy.rego", policy("broken") + "allow := {\n")
    eventually(lambda: mixer.metric("mixer_reloads_total", outcome="refused") >= 1, "a refused reload")
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(mixer.address)) for _ in range(CONNECTIONS)]
        versions = {client.check(check_request()).ok_response.headers[0].header.value for client in clients}
    assert versions == {"0"}


# `slow` in the path keeps a worker busy for a moment, so that calls wait behind it.
SLOW = """
package envoy.authz

import rego.v1

default allow := true

allow := false if {
    input.parsed_path[0] == "slow"
    count([1 | some i in numbers.range(1, 1000); some j in numbers.range(1, 1000); i * j == 0]) > 0
}
"""


def test_sigterm_drains_every_worker(make_workers):
    mixer = make_workers(rego=SLOW)
    mixer.start()
    family = child_processes(mixer.running.pid)
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(mixer.address)) for _ in range(CONNECTIONS)]
        for client in clients:
            client.check(check_request())
        calls = [client.check_later(check_request("/slow")) for client in clients]
        calls += [client.check_later(check_request()) for client in clients]
        time.sleep(1)  # until they have arrived; the workers are busy for longer
        mixer.running.signal(signal.SIGTERM)
        codes = {call.code() for call in calls}
    assert mixer.running.wait(120) == 0
    assert codes == {grpc.StatusCode.OK}
    assert not any(is_running(pid) for pid in family)


def test_nothing_outlives_a_killed_supervisor(make_workers):
    mixer = make_workers()
    mixer.start()
    family = [*mixer.workers(WORKERS), mixer.valkey()]
    os.kill(mixer.running.pid, signal.SIGKILL)  # the supervisor alone, not its process group
    eventually(lambda: not any(is_running(pid) for pid in family), "the end of every child")
    mixer.running.kill()
    mixer.start()  # nothing that stayed behind keeps it from starting
    with connect(mixer.address) as client:
        assert charged(client, "busy") == 0


def test_of_two_mixers_that_start_at_once_on_one_port_one_is_refused(make_workers):
    first, second = make_workers(2), make_workers(2)
    second.grpc = first.grpc
    first.configure({"policy": {"bundles": ["policy"]}, "server": {"workers": 2}})
    first.file = first.file.rename(first.folder / "first.yaml")
    other = {"workers": 2, "socket": str(second.folder / "second.sock")}
    second.configure({"policy": {"bundles": ["policy"]}, "server": other})
    programs = [first.start(ready=False), second.start(ready=False)]
    eventually(lambda: sum(is_running(program.pid) for program in programs) == 1, "the end of one")
    (refused,) = (program for program in programs if not is_running(program.pid))
    (lives,) = (mixer for mixer in (first, second) if mixer.running is not refused)
    assert refused.wait(60) == 1
    assert f"cannot listen on {first.address}" in refused.tail()
    eventually(lambda: lives.get("/healthz/ready").status == 200, "the other is ready")
    assert len(lives.workers(2)) == 2

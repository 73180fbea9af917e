"""mixer inside the Envoy that carries the traffic, with the files of deploy/envoy-inside: decisions, limits and rows
without a call that leaves the process; and what becomes of traffic when the worker, and so that Envoy, goes."""

from __future__ import annotations

import os
import signal
import socket
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mixer_py.demo.parts import is_ready
from mixer_py.demo.processes import Ports
from tests.end_to_end.conftest import settings
from tests.parts.inside import Inside
from tests.parts.mixer_process import command_line, eventually, sockets_of
from tests.parts.raw_grpc import raw
from tests.parts.upstream import Upstream

pytestmark = [pytest.mark.envoy, pytest.mark.chdb]

_START_SECONDS = 240.0
"""Two Envoys start beside whatever else a machine does."""
POLICY = """
package envoy.authz

allow := {
    "allowed": input.attributes.request.http.method == "GET",
    "http_status": 409,
    "body": "only GET passes here",
    "reasons": ["reads only"],
}
"""


@pytest.fixture(scope="module", params=[1, 2], ids=["one-thread", "two-threads"])
def inside(request: pytest.FixtureRequest, make_module_mixer, ports: Ports, upstream: Upstream) -> Iterator[Inside]:
    mixer = make_module_mixer(POLICY)
    inside = Inside(mixer, ports, upstream, threads=request.param)
    inside.write_bootstrap()
    mixer.configure(settings(mixer.folder, server=inside.server))
    mixer.start()
    yield inside
    assert mixer.running.stop(_START_SECONDS) == 0  # the next has the same folder


def listening_ports(pid: int) -> set[int]:
    """TCP ports at which a process listens (proc(5))."""
    own, found = sockets_of(pid), set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:
                found.add(int(fields[1].rpartition(":")[2], 16))
    return found


def test_it_has_as_many_threads_as_the_settings_say(inside: Inside):
    names = [task.read_text().strip() for task in Path(f"/proc/{inside.mixer.worker()}/task").glob("*/comm")]
    assert len([name for name in names if name.startswith("wrk:worker_")]) == inside.threads


def test_a_limit_is_exact_over_requests_that_come_at_once(inside: Inside):
    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(lambda _: inside.request(tenant="acme").status, range(12)))
    assert sorted(statuses) == [200] * 3 + [429] * 9


def test_an_allowed_request_reaches_the_service_and_its_row_has_verdict_and_outcome(inside: Inside):
    response = inside.request()
    assert response.status == 200
    row = inside.mixer.row(str(response.header("x-request-id")))
    assert (row["verdict"], row["response_code"], row["destination_service_name"]) == ("allow", 200, "reviews")
    joined = f"SELECT decision FROM decisions WHERE decision_id = '{row['decision_id']}'"
    eventually(lambda: inside.mixer.rows(joined), "the decision's own row")


def test_a_denied_request_gets_the_policys_status_and_body(inside: Inside):
    response = inside.request(method="POST")
    assert (response.status, response.body) == (409, b"only GET passes here")
    row = inside.mixer.row(str(response.header("x-request-id")))
    assert (row["verdict"], row["reasons"]) == ("deny", "reads only")


def test_a_request_over_its_limit_gets_429(inside: Inside):
    assert [inside.request(tenant="umbrella").status for _ in range(3)] == [200, 429, 429]
    row = inside.mixer.row(str(inside.request(tenant="umbrella").header("x-request-id")))
    assert (row["limit_code"], row["response_code"]) == ("OVER_LIMIT", 429)


def test_a_changed_policy_decides_without_a_new_envoy(inside: Inside):
    pid = inside.mixer.worker()
    assert inside.request().status == 200
    inside.mixer.reload(lambda: inside.mixer.write("policy/policy.rego", POLICY.replace("GET", "PUT")))
    status = inside.request().status
    inside.mixer.reload(lambda: inside.mixer.write("policy/policy.rego", POLICY))
    assert status == 409
    assert inside.request().status == 200
    assert inside.mixer.worker() == pid


def test_nobody_else_can_ask_it_for_decisions_or_reach_its_admin_pages(inside: Inside):
    assert listening_ports(inside.mixer.worker()) == {inside.port, inside.logs}


def test_nothing_of_the_bootstrap_stands_on_the_command_line_and_its_copy_is_its_owners(inside: Inside):
    arguments = command_line(inside.mixer.worker())
    assert arguments[0] == "envoy"
    assert not [word for word in arguments if "{" in word or word.endswith("yaml")]
    copy = Path(arguments[arguments.index("--config-path") + 1])
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700


def test_a_second_mixer_does_not_share_its_ports_in_silence(
    inside: Inside, make_mixer, ports: Ports, upstream: Upstream
):
    mixer = make_mixer(POLICY)
    second = Inside(mixer, ports, upstream)
    second.port = inside.port
    second.write_bootstrap()
    mixer.configure({"server": second.server})
    program = mixer.start(ready=False)
    assert program.wait(60) == 1
    assert f"cannot listen on 127.0.0.1:{inside.port}" in program.tail()


@pytest.mark.valkey
def test_when_a_worker_is_killed_the_other_carries_on_and_sigterm_lets_requests_end(
    make_mixer, ports: Ports, upstream: Upstream
):
    mixer = make_mixer(POLICY)
    inside = Inside(mixer, ports, upstream)
    inside.write_bootstrap()
    # No rows here: a store beside two Envoys would only make the start longer.
    rooms = {"policy": {"bundles": ["policy"]}, "rate_limit": {"config": ["limits.yaml"], "timeout": "10s"}}
    mixer.configure({**rooms, "server": {**inside.server, "workers": 2}})
    mixer.start(ready=False)
    eventually(lambda: is_ready(mixer.admin), "two Envoys with mixer inside", _START_SECONDS)
    killed = mixer.workers(2)[0]
    assert inside.request(tenant="umbrella").status == 200
    os.kill(killed, signal.SIGKILL)
    # With its last thread: until then its sockets take connections.
    eventually(lambda: not Path(f"/proc/{killed}").exists(), "the end of a worker")
    assert {inside.request().status for _ in range(20)} == {200}, "new connections go to the one that is left"
    assert inside.request(tenant="umbrella").status == 429, "and it knows what the other has counted"
    eventually(lambda: killed not in mixer.workers(2), "another worker")
    eventually(lambda: is_ready(mixer.admin), "a ready mixer", _START_SECONDS)

    checks = mixer.metric("mixer_checks_total")
    answers: list[int] = []
    slow = threading.Thread(target=lambda: answers.append(inside.request("/slow").status))
    slow.start()
    eventually(lambda: mixer.metric("mixer_checks_total") > checks, "the decision on a request that takes long")
    mixer.running.signal(signal.SIGTERM)
    slow.join()
    assert answers == [200], "what was in flight is answered"
    assert mixer.running.wait(60) == 0


def test_sigterm_has_one_deadline_for_traffic_and_for_who_asks_mixer_from_outside(
    make_mixer, ports: Ports, upstream: Upstream
):
    """A request that its service never answers and a check that never comes to its end both last to it, and beyond it
    the supervisor kills, with whatever rows are left."""
    mixer = make_mixer(POLICY)
    inside = Inside(mixer, ports, upstream)
    inside.write_bootstrap()
    outside = {"address": mixer.address, "services": ["ext_authz"]}
    server = {**inside.server, "drain_timeout": "10s", "flush_timeout": "2s"}
    mixer.configure(settings(mixer.folder, server={**server, "listeners": [*server["listeners"], outside]}))
    mixer.start(ready=False)
    eventually(lambda: is_ready(mixer.admin), "an Envoy with mixer inside", _START_SECONDS)
    with socket.create_connection(("127.0.0.1", inside.port)) as client, raw(mixer.address) as caller:
        client.sendall(b"GET /never HTTP/1.1\r\nhost: reviews\r\n\r\n")
        eventually(lambda: mixer.metric("mixer_checks_total") > 0, "the decision on a request that never ends")
        caller.open("/envoy.service.auth.v3.Authorization/Check")
        assert mixer.running.stop(seconds=120) == 0
    assert "had to be killed" not in mixer.running.tail()

"""A revision too large to build beside the answers: a fresh worker takes over, and no call and no count is lost."""

from __future__ import annotations

import os
import signal

import pytest
from envoy.service.ratelimit.v3 import rls_pb2

from tests.end_to_end.conftest import NO_ROWS, settings
from tests.parts.callers import Callers, limit_request
from tests.parts.grpc_client import check_request, connect
from tests.parts.mixer_process import Mixer, eventually, is_running
from tests.parts.raw_grpc import dial
from tests.parts.raw_grpc import message as framed
from tests.parts.rows_sent import message

pytestmark = pytest.mark.chdb

OF = "FROM requests WHERE request_id ="
CHECK = "/envoy.service.auth.v3.Authorization/Check"
RULES = 1000
"""Half a second of work for the engine, ten times what is built in a worker that answers."""
MANY_RULES = "".join(f'\nrule_{number} if input.parsed_path[0] == "path-{number}-of-many"\n' for number in range(RULES))


def policy(version: str) -> str:
    return f'package envoy.authz\n\nallow := {{"allowed": true, "headers": {{"x-version": "{version}"}}}}\n{MANY_RULES}'


@pytest.mark.parametrize(
    ("transport", "unix", "workers"),
    [
        pytest.param("grpcio", False, 1, id="port"),
        pytest.param("grpcio", True, 1, id="unix-socket"),
        pytest.param("grpcio", False, 3, id="three-workers", marks=pytest.mark.valkey),
        pytest.param("envoy", True, 1, id="envoy-on-a-unix-socket", marks=pytest.mark.envoy),
        pytest.param("envoy", False, 2, id="two-envoys", marks=[pytest.mark.envoy, pytest.mark.valkey]),
    ],
)
def test_a_large_revision_is_built_in_fresh_workers_that_take_over(make_mixer, tmp_path, transport, unix, workers):
    mixer: Mixer = make_mixer()
    address = f"unix://{tmp_path}/s" if unix else mixer.address
    server = {"workers": workers, "listeners": [{"address": address, "transport": transport}]}
    mixer.write("policy/policy.rego", policy("0"))
    mixer.configure(settings(mixer.folder, server=server, rate_limit={"timeout": "10s"}))
    mixer.start()
    over = rls_pb2.RateLimitResponse.OVER_LIMIT
    with connect(address) as client:
        assert [client.limit(limit_request("acme")).overall_code == over for _ in range(3)] == [False] * 3
    with Callers(address) as callers:
        for version in ("1", "2"):
            mixer.reload(lambda version=version: mixer.write("policy/policy.rego", policy(version)))
            eventually(lambda version=version: callers.seen[version] >= 20, f"20 answers by version {version}")
    assert [str(failure) for failure in callers.failures] == []
    assert set(callers.seen) == {"0", "1", "2"}
    assert {len(revisions) for revisions in callers.revisions.values()} == {1}, "one revision decides and is told"
    assert mixer.metric("mixer_worker_restarts_total") == 0
    told = f'"revision": "{mixer.revision()}", "before"'
    eventually(lambda: told in mixer.running.log.read_text(encoding="utf-8"), "the last takeover is over")
    with connect(address) as client:
        assert client.limit(limit_request("acme")).overall_code == over
        status = client.limit(limit_request("busy")).statuses[0]
    assert 1_000_000 - status.limit_remaining == callers.charged + 1


@pytest.mark.parametrize(
    ("transport", "unix"),
    [
        pytest.param("grpcio", False, id="port"),
        pytest.param("grpcio", True, id="unix-socket"),
        pytest.param("envoy", False, id="envoy-on-a-port", marks=pytest.mark.envoy),
        pytest.param("envoy", True, id="envoy-on-a-unix-socket", marks=pytest.mark.envoy),
    ],
)
def test_there_is_no_moment_at_which_it_cannot_be_connected_to(make_mixer, tmp_path, transport, unix):
    """Neither for who connected before a takeover and speaks after it, nor when a worker ends that was succeeded twice.

    File systems give the number of a socket that was removed to the next one, so the first worker's and the third's
    may have the same.
    """
    mixer: Mixer = make_mixer(policy("0"))
    address = f"unix://{tmp_path}/s" if unix else mixer.address
    server = {"listeners": [{"address": address, "transport": transport}]}
    mixer.configure(settings(mixer.folder, server=server, telemetry=NO_ROWS))
    mixer.start()
    first = mixer.worker()
    early = dial(address)
    mixer.reload(lambda: mixer.write("policy/policy.rego", policy("1")))
    early.greet()
    assert early.call(CHECK, framed(check_request().SerializeToString())).status == 0
    early.close()
    mixer.reload(lambda: mixer.write("policy/policy.rego", policy("2")))
    os.kill(first, signal.SIGTERM)  # as it is ended when its connections have reached their age
    eventually(lambda: not is_running(first), "the end of the first worker")
    with connect(address) as client:
        assert client.check(check_request()).ok_response.headers[0].header.value == "2"


def test_a_large_revision_with_a_fault_leaves_the_worker_in_place(make_mixer):
    mixer = make_mixer(policy("good"), telemetry=NO_ROWS)
    mixer.start()
    revision = mixer.revision()
    mixer.write("policy/policy.rego", policy("bad") + "\nallow := {\n")
    eventually(lambda: mixer.metric("mixer_reloads_total", outcome="refused") >= 1, "a refused reload")
    assert mixer.revision() == revision
    with connect(mixer.address) as client:
        assert client.check(check_request()).ok_response.headers[0].header.value == "good"


def test_a_stream_of_logs_that_stays_with_the_worker_before_is_recorded_as_it_is_wanted_now(make_mixer):
    """Else a header that somebody takes out of the rows would be stored until the last old connection has ended."""

    def log(number: int) -> None:
        sent = message(number, 1)
        sent.http_logs.log_entry[0].request.request_headers["x-tenant"] = "acme"
        client.log([sent])

    def headers(number: int) -> list[object]:
        return [row["request_headers"] for row in mixer.rows(f"SELECT request_headers {OF} 'r{number}'")]

    shown = {"headers": {"request": ["x-tenant"]}, "queue": {"block_interval": "10ms"}}
    mixer = make_mixer(policy("0"), telemetry=shown)
    mixer.start()
    with connect(mixer.address) as client:
        log(0)
        eventually(lambda: headers(0) == [{"x-tenant": "acme"}], "a row with the header")
        kept = settings(mixer.folder, telemetry={**shown, "headers": {"request": []}})
        mixer.reload(lambda: (mixer.write("policy/policy.rego", policy("1")), mixer.configure(kept)))
        log(1)
        eventually(lambda: headers(1) == [{}], "a row without it")


def test_a_second_mixer_does_not_share_a_place(make_mixer, tmp_path):
    first = make_mixer()
    first.start()
    second = make_mixer()
    second.configure({"server": {"listeners": [{"address": first.address}], "socket": str(tmp_path / "other.sock")}})
    program = second.start(ready=False)
    assert program.wait(60) == 1
    assert f"cannot listen on {first.address}" in program.tail()

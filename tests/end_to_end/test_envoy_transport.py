"""The transport envoy: the same worker inside an Envoy, which callers cannot tell from the one on grpcio."""

from __future__ import annotations

import os
import signal
import stat
import sys
from pathlib import Path

import grpc
import pytest
from envoy.service.accesslog.v3 import als_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mixer_py.demo.parts import is_ready
from tests.parts.callers import limit_request
from tests.parts.grpc_client import check_request, connect
from tests.parts.mixer_process import Mixer, command_line, eventually, is_running

pytestmark = pytest.mark.envoy

POLICY = """
package envoy.authz

default allow := false

allow if input.attributes.request.http.method == "GET"
"""


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s") / "mixer.sock"


@pytest.fixture(scope="module")
def mixer(make_module_mixer, socket_path: Path) -> Mixer:
    mixer = make_module_mixer(POLICY)
    only_limits = {"address": f"unix://{socket_path}", "transport": "envoy", "services": ["rate_limit", "health"]}
    mixer.use_envoy(only_limits)
    mixer.configure(
        {
            "policy": {"bundles": ["policy"]},
            "rate_limit": {"config": ["limits.yaml"]},
            "server": {"max_message_bytes": "2MiB"},
        }
    )
    mixer.start()
    return mixer


def test_checks_and_limits_are_answered_and_counted(mixer: Mixer):
    allowed = mixer.metric("mixer_checks_total", verdict="allow")
    with connect(mixer.address) as client:
        assert client.check(check_request()).status.code == 0
        denied = client.check(check_request(method="POST"))
        assert denied.status.code == grpc.StatusCode.PERMISSION_DENIED.value[0]
        assert denied.dynamic_metadata["mixer_verdict"] == "deny"
        assert client.limit(limit_request("umbrella")).overall_code == 1
        assert client.limit(limit_request("umbrella")).overall_code == 2
    assert mixer.metric("mixer_checks_total", verdict="allow") == allowed + 1


def test_streams_go_on_beside_it_with_grpcio(mixer: Mixer):
    message = als_pb2.StreamAccessLogsMessage()
    message.identifier.log_name = "outbound"
    message.http_logs.log_entry.add().request.request_id = "beside"
    requests = mixer.metric("istio_requests_total")
    with connect(mixer.second) as client:
        client.log([message])
    eventually(lambda: mixer.metric("istio_requests_total") == requests + 1, "the entry on /metrics")


def test_health_is_told_by_name(mixer: Mixer):
    with grpc.insecure_channel(mixer.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "envoy.service.auth.v3.Authorization", "ratelimit"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=60)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as failure:
            health.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=60)
        assert failure.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_unix_socket_is_its_owners_and_has_services_of_its_own(mixer: Mixer, socket_path: Path):
    assert stat.S_IMODE(socket_path.stat().st_mode) == 0o600
    with connect(f"unix://{socket_path}") as client:
        assert client.limit(limit_request("acme")).overall_code == 1
        with pytest.raises(grpc.RpcError) as failure:
            client.check(check_request())
        assert failure.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert "Check" in failure.value.details()


def test_a_large_message_is_read_and_a_larger_one_is_refused_alone(mixer: Mixer):
    with connect(mixer.address) as client:
        assert client.check(check_request(headers={"x-large": "x" * 1_900_000})).status.code == 0
        for size in (2_200_000, 8_000_000):
            with pytest.raises(grpc.RpcError) as failure:
                client.check(check_request(headers={"x-large": "x" * size}))
            assert failure.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert client.check(check_request()).status.code == 0


def test_nothing_secret_stands_on_the_command_line_and_its_files_are_its_owners(mixer: Mixer):
    arguments = command_line(mixer.worker())
    assert arguments[0] == "envoy"
    assert not [word for word in arguments if "{" in word or "yaml" in word]
    bootstrap = Path(arguments[arguments.index("--config-path") + 1])
    assert stat.S_IMODE(bootstrap.stat().st_mode) == 0o600
    assert stat.S_IMODE(bootstrap.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((bootstrap.parent / "admin").stat().st_mode) == 0o600


def test_the_log_says_which_listener_uses_which_transport_and_why(mixer: Mixer):
    log = mixer.running.log.read_text()
    assert '"transport": "envoy"' in log
    assert "a single call costs less CPU" in log
    assert "access_log and reflection speak in streams, which only grpcio carries" in log


def test_a_reload_reaches_it(mixer: Mixer):
    with connect(mixer.address) as client:
        assert client.check(check_request(method="PUT")).status.code != 0
        mixer.reload(lambda: mixer.write("policy/policy.rego", POLICY.replace('"GET"', '"PUT"')))
        assert client.check(check_request(method="PUT")).status.code == 0
        mixer.reload(lambda: mixer.write("policy/policy.rego", POLICY))


def test_a_worker_that_is_killed_is_replaced_and_counters_do_not_go_back(mixer: Mixer):
    with connect(mixer.address) as client:
        client.check(check_request())
        before, worker = mixer.metric("mixer_checks_total"), mixer.worker()
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: mixer.worker() != worker and mixer.get("/healthz/ready").status == 200, "another worker")
        assert client.check(check_request()).status.code == 0
    assert mixer.metric("mixer_checks_total") == before + 1


def test_modules_in_the_folder_that_it_is_started_in_are_not_its_own(make_mixer, programs, tmp_path: Path):
    for name in ("random", "uvloop", "mixer_py"):
        (tmp_path / f"{name}.py").write_text('raise SystemExit("this is not what was meant")\n')
    mixer = make_mixer()
    mixer.use_envoy()
    mixer.configure({})
    command = (
        "/usr/bin/env",
        f"--chdir={tmp_path}",
        Path(sys.executable).with_name("mixer"),
        "serve",
        "-c",
        mixer.file,
    )
    programs.start("elsewhere", command).wait_until(lambda: is_ready(mixer.admin))


def test_no_envoy_outlives_the_supervisor(make_mixer):
    mixer = make_mixer()
    mixer.use_envoy()
    mixer.configure({})
    mixer.start()
    worker = mixer.worker()
    mixer.running.signal(signal.SIGKILL)
    eventually(lambda: not is_running(worker), "the end of the worker")

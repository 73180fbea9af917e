"""`mixer doctor` on real programs: all well, and one thing wrong at a time."""

from __future__ import annotations

import json
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from mixer_py.demo.processes import Ports
from tests.parts.certificates import make_certificate
from tests.parts.envoy_proxy import EnvoyProxy
from tests.parts.mixer_process import Mixer
from tests.parts.programs import Programs
from tests.parts.upstream import Upstream
from tests.parts.valkey import Valkey

POLICY = "package envoy.authz\nimport rego.v1\ndefault allow := true\n"
LIMITS = "domain: mesh\ndescriptors: [{key: tenant, rate_limit: {unit: minute, requests_per_unit: 5}}]\n"

Findings = list[dict[str, Any]]


@pytest.fixture
def mixer(programs: Programs, ports: Ports, tmp_path: Path) -> Mixer:
    """Not started yet, with a policy and a limit."""
    one = Mixer(programs, ports, tmp_path)
    one.write("policies/authz.rego", POLICY)
    one.write("limits.yaml", LIMITS)
    return one


def settings(**more: Any) -> dict[str, Any]:
    return {"policy": {"bundles": ["policies"]}, "rate_limit": {"config": ["limits.yaml"]}, **more}


def doctor(mixer: Mixer, *arguments: str) -> Findings:
    finished = mixer.run("doctor", "--format", "json", *arguments)
    assert finished.stderr == ""
    told = json.loads(finished.stdout)
    faults = [one for one in told["findings"] if one["state"] == "fault"]
    assert told["good"] is not bool(faults)
    assert finished.returncode == bool(faults)
    return list(told["findings"])


def about(found: Findings, subject: str) -> list[tuple[str, str]]:
    return [(one["state"], one["message"]) for one in found if one["subject"].startswith(subject)]


@pytest.mark.envoy
@pytest.mark.chdb
@pytest.mark.valkey
def test_all_is_well_around_a_mixer_that_runs(mixer: Mixer, programs: Programs, ports: Ports, upstream: Upstream):
    valkey = Valkey(programs, ports)
    mixer.configure(
        settings(
            rate_limit={"config": ["limits.yaml"], "store": valkey.uri, "timeout": "10s"},
            telemetry={"clickhouse": {"url": "chdb://rows"}, "spool": {"directory": "spool", "bytes": "1MiB"}},
        )
    )
    mixer.start()
    envoy = EnvoyProxy(programs, ports, mixer=mixer.grpc, upstream=upstream.port)
    envoy.start()
    found = doctor(mixer, "--envoy", f"http://127.0.0.1:{envoy.admin}")
    # Nobody need keep this machine's clock right, and Envoys of tests wait longer than those of users.
    tolerated = {"clock", "Envoy's ext_authz", "Envoy's ratelimit"}
    assert [one for one in found if one["state"] != "good" and one["subject"] not in tolerated] == []
    assert ("good", "the running mixer listens here") in about(found, f"address {mixer.address}")
    assert ("good", "answers, and takes the script") in about(found, "counter store")
    assert about(found, "running mixer") == [("good", f"is ready, with revision {mixer.revision()}")]
    assert about(found, "Envoy's cluster mixer") == [("good", "is where mixer listens")]


def test_what_a_running_mixer_complains_of(mixer: Mixer):
    mixer.configure(settings())
    mixer.start()
    mixer.configure(settings(server={"max_in_flight": 7}))
    mixer.running.signal(signal.SIGHUP)
    mixer.running.wait_until(lambda: mixer.metric("mixer_reloads_total", outcome="refused") > 0)
    ((state, message),) = about(doctor(mixer), "running mixer")[1:]
    assert state == "fault"
    assert message.startswith("the last reload was refused: server.max_in_flight: cannot change while mixer runs")


def test_faults_of_files_come_first_and_alone(mixer: Mixer):
    mixer.configure(settings())
    mixer.write("policies/authz.rego", "package envoy.authz\nallow := \n")
    found = doctor(mixer)
    assert {one["subject"] for one in found} == {"configuration"}
    (fault,) = (one for one in found if one["state"] == "fault")
    assert fault["place"].endswith("policies/authz.rego:3")


def test_a_port_that_another_program_has(mixer: Mixer):
    mixer.configure(settings())
    with socket.create_server(("127.0.0.1", mixer.grpc)):
        found = doctor(mixer)
    ((state, message),) = about(found, f"address {mixer.address}")
    assert state == "fault"
    assert "is taken by" in message
    assert about(found, f"address 127.0.0.1:{mixer.admin}") == [("good", "is free")]


@pytest.mark.valkey
def test_counter_stores_that_are_away_or_forget(mixer: Mixer, programs: Programs, ports: Ports):
    valkey = Valkey(programs, ports, "--maxmemory-policy", "allkeys-lru", "--requirepass", "secret", secret="secret")
    limits = {"config": ["limits.yaml"], "store": valkey.uri, "timeout": "10s"}
    mixer.configure(settings(rate_limit=limits))
    ((state, message),) = about(doctor(mixer), "counter store")
    assert (state, "uthentication" in message) == ("fault", True)

    mixer.write("password", "secret")
    mixer.configure(settings(rate_limit={**limits, "redis": {"password": {"file": "password"}}}))
    states = about(doctor(mixer), "counter store")
    assert states[0] == ("good", "answers, and takes the script")
    assert states[-1][0] == "warning"
    assert states[-1][1].startswith("maxmemory-policy is allkeys-lru")

    valkey.program.signal(signal.SIGKILL)
    valkey.program.wait(60)
    ((state, message),) = about(doctor(mixer), "counter store")
    assert (state, "onnect" in message) == ("fault", True)


def test_a_server_of_rows_that_is_away(mixer: Mixer, ports: Ports):
    mixer.configure(settings(telemetry={"clickhouse": {"url": f"clickhouse://127.0.0.1:{ports.take()}/mesh"}}))
    ((state, message),) = about(doctor(mixer), "ClickHouse")
    assert (state, "does not answer" in message) == ("fault", True)


@pytest.mark.skipif(not Path("/proc/sys").is_dir(), reason="needs Linux's /proc, which nobody can write to")
def test_folders_that_cannot_hold_rows(mixer: Mixer):
    rows, spool = {"url": "chdb:///proc/sys/rows"}, {"directory": "spool", "bytes": "100TiB"}
    mixer.configure(settings(telemetry={"clickhouse": rows, "spool": spool}))
    found = doctor(mixer)
    assert [state for state, _ in about(found, "chDB in")] == ["fault"]
    ((state, message),) = about(found, "spool in")
    assert (state, "300.0 TiB may be needed" in message or "may be needed" in message) == ("warning", True)


@pytest.fixture
def bundle_server() -> Iterator[tuple[str, Callable[[int], None]]]:
    """A server of bundles, and what sets the status that it answers with."""
    status = 404

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"\x1f\x8bnot much of an archive")

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    def answer(number: int) -> None:
        nonlocal status
        status = number

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/bundle.tar.gz", answer
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_bundle_that_is_not_there(mixer: Mixer, bundle_server: tuple[str, Callable[[int], None]]):
    url, answer = bundle_server
    mixer.configure(settings(policy={"bundles": [url]}))
    assert about(doctor(mixer), url) == [("fault", "the server answered 404 Not Found")]
    answer(200)
    assert about(doctor(mixer), url) == [("good", "was fetched: 24 bytes")]


def test_certificates(mixer: Mixer, tmp_path: Path):
    one, other = make_certificate(tmp_path, "one"), make_certificate(tmp_path, "other")
    tls = {"certificate": str(one.certificate), "key": str(one.key), "client_ca": str(other.certificate)}
    mixer.configure(settings(server={"tls": tls}))
    states = about(doctor(mixer), "certificate ")
    assert [state for state, _ in states] == ["warning", "warning"]  # they are good for a day
    assert "only" in states[0][1]

    for spoil in (lambda: shutil.copyfile(other.key, one.key), lambda: one.certificate.write_text("nothing")):
        spoil()  # what the settings name cannot be used at all, which `mixer validate` finds too
        (fault,) = (found for found in doctor(mixer) if found["state"] == "fault")
        assert fault["subject"] == "configuration"
        assert "certificate" in f"{fault['place']} {fault['message']}"


def test_certificates_of_the_counter_store(mixer: Mixer, tmp_path: Path):
    one, other = make_certificate(tmp_path, "one"), make_certificate(tmp_path, "other")
    tls = {"certificate": str(one.certificate), "key": str(other.key)}
    limits = {"config": ["limits.yaml"], "redis": {"tls": tls}}
    mixer.configure(settings(rate_limit=limits))
    ((state, message),) = about(doctor(mixer), "certificate ")
    assert (state, "does not belong to the key" in message) == ("fault", True)
    one.certificate.write_text("nothing")
    ((state, message),) = about(doctor(mixer), "certificate ")
    assert (state, "holds no certificate" in message) == ("fault", True)


def test_an_opa_server_that_is_away(mixer: Mixer, ports: Ports):
    mixer.configure({"policy": {"engine": "opa", "opa": {"url": f"http://127.0.0.1:{ports.take()}"}}})
    ((state, _),) = about(doctor(mixer), "OPA server")
    assert state == "fault"


def test_what_a_person_sees(mixer: Mixer):
    mixer.configure(settings(rate_limit={"config": ["limits.yaml"], "store": "redis://127.0.0.1:1"}))
    finished = mixer.run("doctor", "--envoy", str(Path("deploy/envoy/envoy.yaml").absolute()))
    lines = finished.stdout.splitlines()
    assert finished.returncode == 1
    assert any(line.startswith("FAULT   counter store 127.0.0.1:1:") for line in lines)
    assert "        start it, or mend the address" in lines
    assert lines[-1].startswith("1 faults, ")
    assert "\x1b" not in finished.stdout

"""Metrics over headers, trailers and parameters that no row shows: /metrics has them, and nothing else anywhere.

Looked for in the raw bytes of the spool, of chDB's folder and of the log, and in what the commands show.
"""

from __future__ import annotations

import json
import secrets
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from mixer_py.demo.processes import own_environment
from tests.end_to_end.conftest import MakeEnvoy, MakeMixer
from tests.parts.envoy_proxy import Bootstrap, EnvoyProxy, manager
from tests.parts.mixer_process import MIXER, Mixer, eventually
from tests.parts.rows_sent import PATIENT, hanging_store

pytestmark = [pytest.mark.envoy, pytest.mark.chdb]

MARK = secrets.token_hex(8)
"""In every value that only metrics read."""
SECRET = secrets.token_hex(12)
MUTATION = "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
GRPC = [("content-type", "application/grpc"), ("te", "trailers")]
METRIC = {
    "name": "tenants_total", "kind": "counter", "match": '"x-tenant" in request.headers',
    "labels": {
        "tenant": 'request.headers["x-tenant"]', "build": 'response.headers["x-build"]',
        "shard": 'response_trailers["x-shard"]', "came_from": "request.referer",
        "cookie": "request.headers.cookie", "account": 'request_headers["x-account"]', "method": "request.method",
    },
}  # fmt: skip
PLANS = {"name": "plans_total", "kind": "counter", "labels": {"plan": "request.query_params.plan"}}
TELEMETRY = {
    "headers": {"request": ["x-shown"]},
    "mask": {"headers": ["x-account"]},
    "spool": {"directory": "spool", "mode": "always"},
    "queue": {"block_interval": "10ms"},
    "prometheus": {"metrics": [METRIC, PLANS]},
}  # fmt: skip
HEADERS = [
    ("x-shown", "shown-4711"), ("referer", f"https://{MARK}.test/"),
    ("cookie", f"id={SECRET}"), ("x-account", SECRET),
]  # fmt: skip
LABELS = {
    "tenant": f"tenant-{MARK}", "build": f"build-{MARK}", "shard": f"shard-{MARK}",
    "came_from": f"https://{MARK}.test/", "cookie": "***", "account": "***", "method": "POST",
}  # fmt: skip


def answer_with_trailers(bootstrap: Bootstrap) -> None:
    """Logs what the metric reads, and lets mixer's own health service answer, which is one with trailers."""
    connection_manager = manager(bootstrap)
    logger = connection_manager["access_log"][0]["typed_config"]
    logger["additional_request_headers_to_log"] = ["x-tenant", *dict(HEADERS)]
    logger["additional_response_headers_to_log"] = ["x-build"]
    logger["additional_response_trailers_to_log"] = ["x-shard"]
    added = {"response_mutations": "build", "response_trailers_mutations": "shard"}
    mutations = {
        which: [{"append": {"header": {"key": f"x-{name}", "value": LABELS[name]}}}] for which, name in added.items()
    }
    config = {"@type": MUTATION, "mutations": mutations}
    connection_manager["http_filters"].insert(-1, {"name": "mutation", "typed_config": config})
    match = {"prefix": "/grpc.health.v1.Health/"}
    connection_manager["route_config"]["virtual_hosts"][0]["routes"].insert(
        0, {"match": match, "route": {"cluster": "mixer"}}
    )


@pytest.fixture(scope="module")
def mixer(make_module_mixer: MakeMixer) -> Mixer:
    # What decisions keep of the policy's input is another matter, and has masks of its own.
    decision_log = {"input": False}
    mixer = make_module_mixer(telemetry=TELEMETRY, decision_log=decision_log, server=PATIENT)
    mixer.start()
    return mixer


@pytest.fixture(scope="module")
def envoy(mixer: Mixer, make_module_envoy: MakeEnvoy) -> EnvoyProxy:
    envoy = make_module_envoy(mixer)
    envoy.start(edit=answer_with_trailers)
    return envoy


@pytest.fixture(scope="module")
def spooled(mixer: Mixer, envoy: EnvoyProxy) -> bytes:
    """The bytes of the spool while ClickHouse hangs, with two rows in it; afterwards they are written."""
    with hanging_store(mixer):
        ask(envoy)
        eventually(lambda: mixer.metric("mixer_spool_rows", table="requests") == 2, "rows in the spool")
        found = contents(mixer.folder / "spool")
    eventually(lambda: len(mixer.rows("SELECT 1 FROM requests")) == 2, "rows in the table")
    return found


def ask(envoy: EnvoyProxy, tenant: str = LABELS["tenant"]) -> None:
    path, body = "/grpc.health.v1.Health/Check", struct.pack(">BI", 0, 0)
    assert envoy.request(path, method="POST", headers=[("x-tenant", tenant), *GRPC, *HEADERS], body=body).status == 200
    assert envoy.request(f"/reviews/1?plan=plan-{MARK}", headers=[("x-shown", "shown-4711")]).status == 200


def contents(folder: Path) -> bytes:
    return b"\n".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


def test_what_a_metric_reads_is_its_labels(spooled: bytes, mixer: Mixer) -> None:
    assert spooled
    assert mixer.metrics("tenants_total")["tenants_total", frozenset(LABELS.items())] == 1
    assert mixer.metric("plans_total", plan=f"plan-{MARK}") == 1
    assert mixer.metrics("mixer_user_metric_errors_total") == {}


def test_it_is_in_no_row_neither_spooled_nor_written_nor_shown(spooled: bytes, mixer: Mixer, tmp_path: Path) -> None:
    written = json.dumps(mixer.rows("SELECT * FROM requests") + mixer.rows("SELECT * FROM decisions"))
    shown = tailed(mixer, tmp_path / "shown")
    for place in (spooled, written.encode(), shown.encode()):
        assert b"shown-4711" in place  # or this would show nothing
    everything = (spooled, contents(mixer.folder / "chdb"), written.encode(), shown.encode())
    for place in (*everything, mixer.running.log.read_bytes(), mixer.get("/config").body):
        assert MARK.encode() not in place
        assert SECRET.encode() not in place
    assert SECRET not in mixer.get("/metrics").body.decode()


def tailed(mixer: Mixer, file: Path) -> str:
    """What `mixer tail` shows of the rows that are there."""
    command = (*MIXER, "tail", "-c", str(mixer.file), "-n", "9", "--format", "json")
    with file.open("w") as output, subprocess.Popen(command, stdout=output, env=own_environment()) as process:
        try:
            eventually(lambda: file.read_text().count("\n") >= 2, "two rows")
        finally:
            process.kill()
    return file.read_text()


def test_a_reload_lets_rows_show_it_and_another_metric_read_it(spooled: bytes, mixer: Mixer, envoy: EnvoyProxy) -> None:
    assert spooled
    other = {"name": "shown_total", "kind": "counter", "labels": {"tenant": 'request.headers["x-tenant"]'}}
    mixer.reload(lambda: change(mixer, {"request": ["x-tenant"]}, [METRIC, other]))
    ask(envoy, tenant="later")
    looked_for = "SELECT 1 FROM requests WHERE request_headers['x-tenant'] = 'later'"
    eventually(lambda: mixer.rows(looked_for), "a row that shows it")
    assert mixer.metrics("tenants_total")["tenants_total", frozenset({**LABELS, "tenant": "later"}.items())] == 1
    assert mixer.metric("shown_total", tenant="later") == 1


def change(mixer: Mixer, headers: dict[str, Any], metrics: list[dict[str, Any]]) -> None:
    settings = yaml.safe_load(mixer.file.read_text(encoding="utf-8"))
    settings["telemetry"]["headers"] = headers
    settings["telemetry"]["prometheus"]["metrics"] = metrics
    mixer.write("mixer.yaml", yaml.safe_dump(settings))

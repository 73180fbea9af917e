"""A secret that came in header, query, cookie, custom tag and a policy's reasons through a real Envoy is nowhere.

Looked for in the raw bytes of the spool, of chDB's folder and of the logs, on /metrics, and in what the commands
show. What was asked for is there, or this would show nothing.
"""

from __future__ import annotations

import json
import secrets
import subprocess
from pathlib import Path

import pytest

from mixer_py.demo.processes import own_environment
from tests.parts.envoy_proxy import Bootstrap, EnvoyProxy, manager
from tests.parts.grpc_client import connect
from tests.parts.mixer_process import MIXER, Mixer, eventually
from tests.parts.rows_sent import PATIENT, hanging_store

pytestmark = [pytest.mark.envoy, pytest.mark.chdb]

SECRET = secrets.token_hex(12)
VISIBLE = "visible-tenant-4711"

AUTHZ = """
package envoy.authz

import rego.v1

default allow := false

allow := {"allowed": true, "reasons": [reason]} if input.parsed_path[0] == "open"

allow := {"allowed": false, "reasons": [reason]} if input.parsed_path[0] == "shut"

# A result of a wrong shape, a call that fails and two values for one rule: errors that may quote what they met.
allow := {"allowed": input.parsed_query.access_token[0]} if input.parsed_path[0] == "shape"

allow := to_number(input.parsed_query.access_token[0]) if input.parsed_path[0] == "call"

allow := {"allowed": true} if input.parsed_path[0] == "conflict"

allow := {"allowed": true, "reasons": [reason]} if input.parsed_path[0] == "conflict"

reason := sprintf("asked with token=%s", [input.parsed_query.access_token[0]])
"""
TELEMETRY = {
    "headers": {"request": ["*"], "response": ["*"], "trailers": ["*"]},
    "query": ["*"],
    "mask": {"headers": ["x-account"], "query": ["patient"], "columns": {"source_ip": "hash", "origin_ip": "remove"},
             "hash_key": "some key"},
    "queue": {"block_interval": "10ms"},
    "spool": {"directory": "spool", "mode": "always"},
    "prometheus": {"metrics": [
        {"name": "agents_total", "kind": "counter", "labels": {
            "agent": "request.useragent", "from": "source.ip", "tag": 'custom_tags["tenant"]',
            "account": 'request.headers["x-account"]', "page": "request.query_params.page",
        }},
    ]},
}  # fmt: skip
HEADERS = [
    ("authorization", f"Bearer {SECRET}"), ("cookie", f"id={SECRET}"), ("x-api-key", SECRET), ("x-account", SECRET),
    ("x-session-token", SECRET), ("x-tenant", VISIBLE), ("referer", f"https://shop.test/?page=1&sig={SECRET}"),
    ("user-agent", f"agent; api_key={SECRET}"),
]  # fmt: skip
QUERY = f"?page=7&access_token={SECRET}&patient={SECRET}&next=https%3A%2F%2Fa.test%2F%3Fcode%3D{SECRET}"


FILTER = f'custom_tags["tenant"] == "{VISIBLE}" && request.headers["x-tenant"] == custom_tags["tenant"]'


def log_everything(bootstrap: Bootstrap) -> None:
    logger = manager(bootstrap)["access_log"][0]["typed_config"]
    logger["additional_request_headers_to_log"] = [name for name, _ in HEADERS]
    logger["common_config"]["custom_tags"] = [
        {"tag": "session-token", "request_header": {"name": "x-session-token"}},
        {"tag": "tenant", "request_header": {"name": "x-tenant"}},
        {"tag": "link", "request_header": {"name": "referer"}},
    ]


@pytest.fixture(scope="module")
def mixer(make_module_mixer) -> Mixer:
    mixer: Mixer = make_module_mixer(
        AUTHZ,
        telemetry=TELEMETRY,
        decision_log={"mask": {"headers": ["x-account"], "query": ["patient"]}},
        server=PATIENT,
    )
    mixer.start()
    return mixer


@pytest.fixture(scope="module")
def envoy(make_module_envoy, mixer: Mixer) -> EnvoyProxy:
    envoy: EnvoyProxy = make_module_envoy(mixer)
    envoy.start(edit=log_everything)
    return envoy


@pytest.fixture(scope="module")
def spooled(mixer: Mixer, envoy: EnvoyProxy) -> bytes:
    """The bytes of the spool while ClickHouse hangs, with rows of both tables in it; afterwards they are written."""
    with hanging_store(mixer):
        for path in (f"/open/token={SECRET}", "/shut", "/shape", "/call", "/conflict"):
            envoy.request(path + QUERY, headers=HEADERS)
        assert envoy.request("/open" + QUERY + "&%zz", headers=HEADERS).status == 400
        broken = b"\x12\x1e\x0a\x1c\x12\xff" + SECRET.encode()
        with connect(mixer.address) as client:
            client.log([broken])  # an entry that cannot be read
        for table in ("requests", "decisions"):
            eventually(lambda table=table: mixer.metric("mixer_spool_rows", table=table) >= 6, f"{table} in the spool")
        found = contents(mixer.folder / "spool")
    eventually(lambda: len(mixer.rows("SELECT 1 FROM requests")) >= 6, "rows in the table")
    eventually(lambda: len(mixer.rows("SELECT 1 FROM decisions")) >= 6, "decisions in the table")
    return found


def contents(folder: Path) -> bytes:
    return b"\n".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


def test_the_spool_has_what_was_asked_for_and_no_secret(spooled: bytes):
    assert VISIBLE.encode() in spooled
    assert SECRET.encode() not in spooled


def test_rows_have_what_was_asked_for_and_no_secret(spooled: bytes, mixer: Mixer):
    assert spooled
    rows = mixer.rows("SELECT * FROM request_decisions ORDER BY request_url_path, request_id")
    assert SECRET not in json.dumps(rows)
    told = {row["request_url_path"]: row for row in rows if row["request_url_path"] != "/later"}
    opened, shut = told["/open/token=***"], told["/shut"]
    assert opened["request_url_path"] == "/open/token=***"
    assert shut["reasons"] == "asked with token=***"
    for row in told.values():
        assert row["request_headers"] == dict.fromkeys([name for name, _ in HEADERS], "***") | {
            "x-tenant": VISIBLE, "referer": "https://shop.test/?page=1&sig=***", "user-agent": "agent; api_key=***",
        }  # fmt: skip
        assert row["request_referer"] == "https://shop.test/?page=1&sig=***"
        assert row["custom_tags"] == {"session-token": "***", "tenant": VISIBLE, "link": row["request_referer"]}
        assert {name: value for name, value in row["request_query_params"].items() if "%" not in name} == {
            "page": "7", "access_token": "***", "patient": "***", "next": "https://a.test/?code=***",
        }  # fmt: skip
        assert row["origin_ip"] == ""
    decisions = mixer.rows("SELECT * FROM decisions")
    assert SECRET not in json.dumps(decisions)
    failed = {row["request_url_path"]: row["error"] for row in decisions if row["verdict"] == "error"}
    assert all(failed[path] for path in ("/shape", "/conflict")), failed
    both = mixer.rows("SELECT source_ip FROM requests UNION ALL SELECT source_ip FROM decisions")
    (address,) = {row["source_ip"] for row in both}
    assert len(address) == 32


def test_no_file_of_clickhouse_and_no_log_has_a_secret(spooled: bytes, mixer: Mixer):
    assert spooled
    assert SECRET.encode() not in contents(mixer.folder / "chdb")
    assert SECRET.encode() not in mixer.running.log.read_bytes()


def test_no_label_has_a_secret(spooled: bytes, mixer: Mixer):
    assert spooled
    page = mixer.get("/metrics").body.decode()
    assert SECRET not in page
    (labels,) = [dict(labels) for (name, labels), _ in mixer.metrics("agents_total").items() if name == "agents_total"]
    assert labels["agent"] == "agent; api_key=***"
    assert (labels["tag"], labels["account"], labels["page"]) == (VISIBLE, "***", "7")
    assert labels["from"] == mixer.rows("SELECT DISTINCT source_ip FROM requests")[0]["source_ip"]


def test_no_command_shows_a_secret(spooled: bytes, mixer: Mixer, tmp_path: Path):
    assert spooled
    (row, *_) = mixer.rows("SELECT request_id FROM requests WHERE request_url_path = '/shut'")
    for form in ("table", "json"):
        told = mixer.run("why", "--format", form, row["request_id"]).stdout
        assert "asked with token=***" in told
        assert SECRET not in told
        shown = tailed(mixer, tmp_path / form, form)
        assert "/open/token=***" in shown
        assert SECRET not in shown
    answered = mixer.run("query", "SELECT * FROM requests").stdout
    assert VISIBLE in answered
    assert SECRET not in answered


def tailed(mixer: Mixer, file: Path, form: str) -> str:
    """What `mixer tail` shows of the rows that are there."""
    command = (*MIXER, "tail", "-c", str(mixer.file), "-n", "9", "--format", form, "--filter", FILTER)
    with file.open("w") as output, subprocess.Popen(command, stdout=output, env=own_environment()) as process:
        try:
            eventually(lambda: len(file.read_text().splitlines()) >= 2, "two rows")
        finally:
            process.kill()
    return file.read_text()


def test_a_reload_shows_more_or_less_of_what_comes_from_then_on(spooled: bytes, mixer: Mixer, envoy: EnvoyProxy):
    assert spooled
    text = mixer.file.read_text()
    assert "query:\n  - '*'" in text
    mixer.reload(lambda: mixer.write("mixer.yaml", text.replace("query:\n  - '*'", "query:\n  - page")))
    envoy.request("/later" + QUERY, headers=HEADERS)
    eventually(
        lambda: (
            {"request_query_params": {"page": "7"}}
            in mixer.rows("SELECT request_query_params FROM requests WHERE request_url_path = '/later'")
        ),
        "a row with the one parameter",
    )

"""The decision log of a real mixer: masks and `system.log` in rows, and what happens when the store stands still."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.parts.grpc_client import check_request, connect
from tests.parts.mixer_process import Mixer, eventually
from tests.parts.rows_sent import PATIENT, hanging_store

pytestmark = pytest.mark.chdb

AUTHZ = """
package envoy.authz

import rego.v1

default allow := false

allow if input.attributes.request.http.headers.authorization == "Bearer hidden"
"""
RULES = """
package system.log

import rego.v1

mask contains "/input/attributes/request/http/headers/x-user"

mask contains {"op": "upsert", "path": "/input/parsed_body/card", "value": "<card>"}

drop if {
    input.path == "envoy/authz/allow"
    input.result == true
    input.input.parsed_path == ["health"]
}
"""


def decisions(mixer: Mixer, count: int) -> list[dict[str, Any]]:
    """All rows, once there are so many."""

    def look() -> list[dict[str, Any]]:
        rows = mixer.rows("SELECT * FROM decisions ORDER BY timestamp")
        return rows if len(rows) >= count else []

    return eventually(look, f"{count} decisions")


def dropped(mixer: Mixer, reason: str) -> float:
    return mixer.metric("mixer_rows_total", table="decisions", state="dropped", reason=reason)


def test_rows_show_the_input_without_secrets(make_mixer):
    mixer = make_mixer(AUTHZ)
    mixer.write("policy/log.rego", RULES)
    settings = mixer.folder / "mixer.yaml"
    mixer.write("mixer.yaml", settings.read_text() + "decision_log:\n  mask: {query: [tenant]}\n")
    mixer.start()
    headers = {"authorization": "Bearer hidden", "x-user": "hidden", "content-type": "application/json"}
    with connect(mixer.address) as client:
        request = check_request("/a?tenant=hidden&page=2&token=hidden", headers=headers)
        request.attributes.request.http.body = json.dumps({"card": "hidden", "password": "hidden"})
        assert client.check(request).status.code == 0
        assert client.check(check_request("/health", headers=headers)).status.code == 0
        assert client.check(check_request("/health%zz?token=hidden")).denied_response.status.code == 400
    first, second = decisions(mixer, 2)
    assert "hidden" not in str((first, second))
    document = json.loads(first["input"])
    http = document["attributes"]["request"]["http"]
    assert (http["path"], http["body"]) == ("/a?tenant=***&page=2&token=***", "***")
    assert http["headers"] == {
        ":method": "GET", ":path": http["path"], ":authority": "test", "authorization": "***",
        "content-type": "application/json",
    }  # fmt: skip
    assert document["parsed_query"] == {"tenant": ["***"], "page": ["2"], "token": ["***"]}
    assert document["parsed_body"] == {"card": "<card>", "password": "***"}
    assert first["erased"] == "/input/attributes/request/http/headers/x-user"
    assert "/input/attributes/request/http/headers/authorization" in first["masked"].split("; ")
    assert (second["verdict"], second["request_url_path"]) == ("deny", "/health%zz")
    eventually(lambda: dropped(mixer, "policy") == 1, "the health check dropped by the policy")


@pytest.fixture
def full(make_mixer) -> Mixer:
    """A mixer with room for three decisions, not yet started."""
    mixer: Mixer = make_mixer(
        AUTHZ, telemetry={"queue": {"rows": 3, "block_rows": 1, "block_interval": "1ms"}}, server=PATIENT
    )
    return mixer


def have_left(mixer: Mixer, count: int) -> None:
    """Waits until so many decisions are written and, what comes later than their rows, make room for others."""
    decisions(mixer, count)
    eventually(lambda: mixer.metric("mixer_queue_rows", table="decisions") == 0, "that no row has a place in the queue")


def test_a_log_that_is_full_denies_or_blocks_as_it_is_told(full: Mixer):
    plain = (full.folder / "mixer.yaml").read_text()
    full.write("mixer.yaml", plain + "decision_log: {when_full: deny}\n")
    full.start()
    headers = {"authorization": "Bearer hidden"}
    with connect(full.address) as client:
        assert client.check(check_request(headers=headers)).status.code == 0
        have_left(full, 1)
        with hanging_store(full):
            answers = [client.check(check_request(headers=headers)) for _ in range(8)]
            assert client.check(check_request()).denied_response.status.code == 0, "a plain denial of the policy"
        passed, refused = answers[:3], answers[3:]
        assert {answer.status.code for answer in passed} == {0}
        assert {answer.status.code for answer in refused} == {7}
        assert {answer.dynamic_metadata["mixer_reasons"] for answer in refused} == {"the decision log is full"}
        assert dropped(full, "log_full") == len(refused) + 1
        have_left(full, 4)
        full.reload(lambda: full.write("mixer.yaml", plain + "decision_log: {when_full: block, block: 20ms}\n"))
        with hanging_store(full):
            passed += [client.check(check_request(headers=headers)) for _ in range(4)]
        assert {answer.status.code for answer in passed} == {0}
        assert full.metric("mixer_decision_log_full_total", outcome="dropped") == 2
        assert full.metric("mixer_decision_log_full_total", outcome="refused") == len(refused)
    *with_rows, without = passed
    issued = {answer.dynamic_metadata["decision_id"] for answer in with_rows}
    kept = {row["decision_id"] for row in decisions(full, 7)}
    assert issued <= kept, "what was let through has its row"
    assert without.dynamic_metadata["decision_id"] not in kept, "except where there was no room even after a while"

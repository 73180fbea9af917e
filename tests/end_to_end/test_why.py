"""`mixer why ID`: the story of a request through a real Envoy, as a person on call reads it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from envoy.service.accesslog.v3 import als_pb2

from tests.end_to_end.conftest import TENANTS_ONLY
from tests.parts.grpc_client import check_request, connect
from tests.parts.mixer_process import Mixer, eventually

pytestmark = [pytest.mark.envoy, pytest.mark.chdb]


@pytest.fixture(scope="module")
def mixer(make_module_mixer) -> Mixer:
    mixer: Mixer = make_module_mixer(
        TENANTS_ONLY, telemetry={"headers": {"request": ["x-note", "cookie"]}, "query": ["page"], "claims": ["sub"]}
    )
    mixer.start()
    return mixer


def told(mixer: Mixer, identifier: str) -> list[tuple[str, str]]:
    """What a person reads: each line's kind and text; a line without a kind belongs to the one before."""
    finished = mixer.run("why", identifier)
    assert finished.returncode == 0, finished
    lines, kind = [], ""
    for line in finished.stdout.splitlines():
        kind = line[:12].strip() or kind
        lines.append((kind, line[13:]))
    return lines


def document(mixer: Mixer, identifier: str) -> dict[str, Any]:
    finished = mixer.run("why", "--format", "json", identifier)
    found: dict[str, Any] = json.loads(finished.stdout)
    return found


def reported(mixer: Mixer, response: Any) -> str:
    """The id of a request whose row has come."""
    request_id: str = response.header("x-request-id")
    mixer.row(request_id)
    eventually(lambda: mixer.rows(f"SELECT 1 FROM decisions WHERE request_id = '{request_id}'"), "its decision")
    return request_id


def test_a_request_that_was_denied(mixer, envoy):
    request_id = reported(mixer, envoy.request("/reviews/7"))
    lines = told(mixer, request_id)
    assert ("why", "not a reader") in lines
    assert ("why", "ask the owner of reviews") in lines
    assert ("verdict", "deny, by data.envoy.authz.allow") in lines
    assert ("flag", "UAEX: denied by the external authorization service") in lines
    assert ("outcome", "403, ext_authz_denied") in lines
    read = [text for kind, text in lines if kind == "read"]
    assert read == ['input.attributes.request.http.headers["x-tenant"]: not there']  # what it read, and nothing else
    (chapter,) = document(mixer, request_id)["requests"]
    assert chapter["joined_by"] == "decision_id"
    assert chapter["disagreements"] == []
    by_decision = document(mixer, chapter["decision"]["decision_id"])["requests"]
    assert [one["request"]["request_id"] for one in by_decision] == [request_id]


def test_a_request_over_a_limit(mixer, envoy):
    headers = [("x-tenant", "umbrella")]
    envoy.request("/reviews/7", headers=headers)
    request_id = reported(mixer, envoy.request("/reviews/7", headers=headers))
    lines = told(mixer, request_id)
    assert ("verdict", "allow, by data.envoy.authz.allow") in lines
    assert ("limit", "mesh/tenant=umbrella/service, OVER_LIMIT, 0 left") in lines
    assert ("flag", "RL: over a rate limit") in lines
    assert ("read", 'input.attributes.request.http.headers["x-tenant"]: "umbrella"') in lines


def test_a_request_whose_upstream_failed(mixer, envoy):
    request_id = reported(mixer, envoy.request("/break", headers=[("x-tenant", "acme")]))
    kinds = dict(told(mixer, request_id))
    assert kinds["outcome"].startswith("503, upstream_reset_before_response_started")
    assert kinds["flag"] == "UC: the upstream ended the connection"
    assert kinds["upstream"].startswith("reviews")


def test_the_chain_of_times(mixer, envoy):
    request_id = reported(mixer, envoy.request("/reviews/7", headers=[("x-tenant", "timed")]))
    took = [text for kind, text in told(mixer, request_id) if kind == "took"]
    assert re.fullmatch(r"[\d.]+ ms from the first byte received to the last one sent", took[0])
    chain = [re.fullmatch(r"([\d.]+)(?: to ([\d.]+))? ms: (.*)", line) for line in took[1:]]
    assert [one[3] for one in chain if one] == [
        "the request had come", "it was sent upstream", "the response came from upstream", "the response was sent"
    ]  # fmt: skip
    begins = [float(one[1]) for one in chain if one]
    assert begins == sorted(begins)


def test_a_decision_without_a_log_entry(mixer):
    with connect(mixer.address) as client:
        answer = client.check(check_request(headers={"x-request-id": "never-reported"}))
    decision_id = answer.dynamic_metadata["decision_id"]
    eventually(lambda: mixer.rows(f"SELECT 1 FROM decisions WHERE decision_id = '{decision_id}'"), "its row")
    kinds = dict(told(mixer, "never-reported"))
    assert kinds["verdict"] == "deny, by data.envoy.authz.allow"
    assert kinds["outcome"].startswith("no log entry has come")


def forged(request_id: str, **metadata: str) -> als_pb2.StreamAccessLogsMessage:
    message = als_pb2.StreamAccessLogsMessage()
    message.identifier.node.id = "somebody"
    entry = message.http_logs.log_entry.add()
    entry.request.request_id = request_id
    entry.request.path = "/\x1b[31mred\x9b?page=7&other=kept-by-nobody"
    entry.request.request_headers.update({"x-note": "\x1b[2J", "cookie": "s3cret", "x-other": "kept-by-nobody"})
    token = {"iss": "id", "sub": "ann\x07", "email": "kept-by-nobody"}
    entry.common_properties.metadata.filter_metadata["envoy.filters.http.jwt_authn"].update({"payload": token})
    shadow = {"shadow_engine_result": "denied", "shadow_effective_policy_id": "readers\x1b"}
    entry.common_properties.metadata.filter_metadata["envoy.filters.http.rbac"].update(shadow)
    entry.common_properties.metadata.filter_metadata["envoy.filters.http.ext_authz"].update(metadata)
    return message


def test_an_entry_that_contradicts_its_decision_is_flagged_as_the_view_does(mixer):
    with connect(mixer.address) as client:
        answer = client.check(check_request(headers={"x-request-id": "forged"})).dynamic_metadata
        right = {name: answer[name] for name in ("decision_id", "mixer_verdict", "mixer_revision", "mixer_rule")}
        for changed in (
            {}, {"mixer_verdict": "allow"}, {"mixer_revision": "x"}, {"mixer_rule": "data.other"}, {"mixer_rule": ""},
            {"decision_id": "unknown"}, {"decision_id": ""}, {"mixer_verdict": ""}, {"mixer_rule": "data.envoy"},
        ):  # fmt: skip
            client.log([forged("forged", **{**right, **changed})])
    eventually(lambda: len(mixer.rows("SELECT 1 FROM requests WHERE request_id = 'forged'")) == 9, "the entries")
    eventually(lambda: mixer.rows("SELECT 1 FROM decisions WHERE request_id = 'forged'"), "their decision")
    view = "SELECT decision_id, verdict, policy_revision, rule, disagrees FROM request_decisions"
    flagged = {
        (row["decision_id"], row["verdict"], row["policy_revision"], row["rule"]): row["disagrees"]
        for row in mixer.rows(f"{view} WHERE request_id = 'forged'")
    }
    chapters = document(mixer, "forged")["requests"]
    assert len(chapters) == 9
    names = []
    for chapter in chapters:
        entry = chapter["request"]
        key = (entry["decision_id"], entry["verdict"], entry["policy_revision"], entry["rule"])
        assert bool(chapter["disagreements"]) == bool(flagged[key]), key
        names += chapter["disagreements"]
    assert sorted(set(names)) == ["decision_id", "policy_revision", "rule", "verdict"]
    shown = mixer.run("why", "forged").stdout
    assert "disagrees    verdict: the log entry says 'allow', mixer decided 'deny'" in shown
    assert r"/\x1b[31mred\x9b" in shown
    for line in (
        "header       cookie: ***\n             x-note: \\x1b[2J\n", "query        page: 7\n",
        "claim        sub: ann\\x07\n", "dry run      RBAC: denied, by readers\\x1b\n",
    ):  # fmt: skip
        assert line in shown
    assert "kept-by-nobody" not in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    "identifier", ["no-such-id", "' OR 1 = 1 --", "\\' OR 1 = 1 --", "a\\", "x" * 5000, "%", "\x1b[31m"]
)
def test_an_unknown_id_finds_nothing_whatever_is_in_it(mixer, identifier):
    finished = mixer.run("why", identifier)
    assert finished.returncode == 1
    assert finished.stdout.startswith("nothing is known of ")
    assert "\x1b" not in finished.stdout
    assert document(mixer, identifier)["found"] is False

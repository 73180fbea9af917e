"""What a policy returns: a decision that is all right, or an error; never an answer that says more than the result."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse

from mixer_py.errors import ResultError
from mixer_py.policy.result import read_result
from mixer_py.services.check_response import Verdict, respond
from mixer_py.services.decision_ids import DecisionIds
from tests.fuzz.target import CASES

VERDICT = Verdict("allow", "r", "envoy/authz/allow", "rule", "why")
NEW_ID = DecisionIds()
_BREAKING = frozenset("\r\n\0")


def check(data: bytes) -> None:
    try:
        value = orjson.loads(data)  # as both engines' answers are read
        decision = read_result(value, "data.envoy.authz.allow")
    except (orjson.JSONDecodeError, ResultError):
        return
    said = value if isinstance(value, bool) else value["allowed"]
    assert decision.allowed is said, "the decision is another than the result"
    decision_id = NEW_ID.draw()
    for enforce in (True, False):
        answer = respond(VERDICT, decision, enforce=enforce)
        response = CheckResponse.FromString(answer.bytes_for(decision_id))
        assert (response.status.code == 0) == answer.passes == (said or not enforce), "a refused request passes"
        kind = response.WhichOneof("http_response")
        assert kind != ("denied_response" if answer.passes else "ok_response"), "both allowed and denied"
        fields = response.dynamic_metadata.fields
        assert fields["decision_id"].string_value == decision_id, "the policy has set the decision's id"
        assert fields["mixer_verdict"].string_value == "allow", "the policy has set what is mixer's"
        _check_headers(response)


def _check_headers(response: CheckResponse) -> None:
    ok, denied = response.ok_response, response.denied_response
    for option in (*ok.headers, *ok.response_headers_to_add, *denied.headers):
        assert option.header.key, "a header without a name"
        assert not _BREAKING & {*option.header.key, *option.header.value}, "a header that makes two of one"


def seeds() -> Iterator[bytes]:
    yield b"true"
    yield b"false"
    yield orjson.dumps(
        {"allowed": True, "headers": [{"x-a": ["1", "2"]}, {":path": "/x"}], "response_headers_to_add": {"x-b": "c"},
         "request_headers_to_remove": ["x-c"], "query_parameters_to_set": {"a": ["b"]},
         "query_parameters_to_remove": ["d"], "dynamic_metadata": {"mixer_x": 1, "a": [None, 1.5, {"b": True}]},
         "reasons": ["r"], "cache_ttl": "1m30s", "quotas": [{"name": "q", "key": ["k"], "hits": 2}]}
    )  # fmt: skip
    yield orjson.dumps({"allowed": False, "http_status": 401, "body": "no", "headers": {"x-a": "1"}, "cache_ttl": 1.5})
    yield b'{"allowed": true, "reasons": "\\ud800", "cache_ttl": 1e400, "dynamic_metadata": {"a": 12345678901}}'
    for file in sorted(CASES.glob("ext_authz/result_*/want.json")):
        yield file.read_bytes()

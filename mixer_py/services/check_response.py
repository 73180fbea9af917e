"""A decision as Envoy's CheckResponse (envoy/service/auth/v3/external_auth.proto), with mixer's dynamic metadata.

Header options always carry `append` and `append_action` in agreement, because Envoy's versions read either
(reference: Envoy 1.36 reads `append`, 1.37.0 `append_action` first).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from envoy.config.core.v3.base_pb2 import HeaderValueOption
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from google.protobuf.struct_pb2 import Struct

from mixer_py.policy.decision import Decision, Pairs

OK = 0
PERMISSION_DENIED = 7
RESOURCE_EXHAUSTED = 8
BAD_REQUEST = 400
TOO_MANY_REQUESTS = 429
METADATA_BYTES = 4096
"""Bound on mixer's own metadata values; what is cut is the longest, the reasons."""

_OVERWRITE = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
_APPEND = HeaderValueOption.APPEND_IF_EXISTS_OR_ADD


DECISION_ID_LENGTH = 36
"""Of a UUID as text (RFC 9562)."""


def _id_field() -> bytes:
    """All of a CheckResponse that holds nothing but a decision's id, up to that id: the same for every id."""
    response = CheckResponse()
    response.dynamic_metadata.fields["decision_id"].string_value = "-" * DECISION_ID_LENGTH
    message: bytes = response.SerializeToString()
    return message[:-DECISION_ID_LENGTH]


_ID_FIELD = _id_field()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happened to one check, for the answer, the log and the counters.

    Attributes:
        name: `allow`, `deny` or `error`.
        revision: of the snapshot that decided.
        decision: name of the decision, which is its path, as `envoy/authz/allow`, when it has no other.
        rule: which rule decided.
        reasons: why, joined by `; `.
    """

    name: str
    revision: str
    decision: str
    rule: str
    reasons: str

    def fill(self, metadata: Struct, policy_metadata: Mapping[str, Any]) -> None:
        """Writes the policy's metadata, then ours, so that ours cannot be replaced (DESIGN 3.4); not `decision_id`."""
        if policy_metadata:
            metadata.update({key: value for key, value in policy_metadata.items() if not key.startswith("mixer_")})
        fields = metadata.fields
        fields["mixer_verdict"].string_value = self.name
        fields["mixer_revision"].string_value = self.revision
        fields["mixer_decision"].string_value = self.decision[: METADATA_BYTES // 8]
        fields["mixer_rule"].string_value = self.rule[: METADATA_BYTES // 8]
        fields["mixer_reasons"].string_value = _cut(self.reasons, METADATA_BYTES // 2)
        # What quotas say is put behind (`quota_answers.py`); the keys are there so that formatters need no default.
        fields["mixer_quota"].string_value = ""
        fields["mixer_quota_code"].string_value = ""
        fields["mixer_quota_remaining"].string_value = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a check is answered with, but for its id, so that one that was made can be sent again.

    Attributes:
        verdict: what happened.
        http_status: of a denial; 0 when the request is let through or the call fails.
        passes: the request is let through.
    """

    verdict: Verdict
    http_status: int
    passes: bool
    _message: bytes

    def bytes_for(self, decision_id: str) -> bytes:
        """The CheckResponse, serialized, with the id in its metadata.

        Protobuf merges the parts of a message that comes twice, and the entries of a map, so the id is put behind.
        """
        return self._message + _ID_FIELD + decision_id.encode("ascii")

    def with_fields(self, fields: bytes) -> Answer:
        """The same answer with more metadata: a CheckResponse that holds nothing else, serialized."""
        return Answer(self.verdict, self.http_status, self.passes, self._message + fields)


def _answer(verdict: Verdict, response: CheckResponse, http_status: int) -> Answer:
    message: bytes = response.SerializeToString()
    return Answer(verdict, http_status, response.status.code == OK, message)


def respond(verdict: Verdict, decision: Decision, *, enforce: bool) -> Answer:
    """The answer to a decision that was made.

    Args:
        verdict: its verdict.
        decision: its result document.
        enforce: False under dry run: a denial is answered as a bare OK.
    """
    response = CheckResponse()
    allowed = decision.allowed
    response.status.code = OK if allowed or not enforce else PERMISSION_DENIED
    if allowed and not decision.plain:
        _fill_ok(response, decision)
    elif not allowed and enforce and not decision.plain:
        _fill_denied(response, decision)
    verdict.fill(response.dynamic_metadata, decision.dynamic_metadata)
    return _answer(verdict, response, 0 if allowed or not enforce else decision.http_status)


def refuse(verdict: Verdict, http_status: int, body: str = "") -> Answer:
    """A denial that no policy made: an unparsable request, or `on_error: deny`."""
    response = CheckResponse()
    response.status.code = PERMISSION_DENIED
    response.status.message = body
    response.denied_response.status.code = http_status
    response.denied_response.body = body
    verdict.fill(response.dynamic_metadata, {})
    return _answer(verdict, response, http_status)


def refuse_by_quota(verdict: Verdict, decision: Decision, headers: Pairs) -> Answer:
    """A denial by quota of what the policy allowed: 429 (RFC 6585 4), no body, and the policy's metadata."""
    response = CheckResponse()
    response.status.code = RESOURCE_EXHAUSTED
    response.denied_response.status.code = TOO_MANY_REQUESTS
    _set_headers(response.denied_response.headers, headers)
    verdict.fill(response.dynamic_metadata, decision.dynamic_metadata)
    return _answer(verdict, response, TOO_MANY_REQUESTS)


def let_pass(verdict: Verdict) -> Answer:
    """An OK that no policy gave: `on_error: allow`."""
    response = CheckResponse()
    response.ok_response.SetInParent()
    verdict.fill(response.dynamic_metadata, {})
    return _answer(verdict, response, 0)


def _fill_ok(response: CheckResponse, decision: Decision) -> None:
    http = response.ok_response
    http.SetInParent()
    _set_headers(http.headers, decision.headers)
    for key, value in decision.response_headers_to_add:
        _option(http.response_headers_to_add, key, value, append=True)
    http.headers_to_remove.extend(decision.request_headers_to_remove)
    for key, value in decision.query_parameters_to_set:
        http.query_parameters_to_set.add(key=key, value=value)
    http.query_parameters_to_remove.extend(decision.query_parameters_to_remove)


def _fill_denied(response: CheckResponse, decision: Decision) -> None:
    http = response.denied_response
    http.status.code = decision.http_status
    http.body = decision.body
    _set_headers(http.headers, decision.headers)


def _set_headers(options: object, headers: Iterable[tuple[str, str]]) -> None:
    """The first value of a name replaces what is there, further ones are appended: none of a list is lost."""
    seen: set[str] = set()
    for key, value in headers:
        name = key.lower()
        _option(options, key, value, append=name in seen)
        seen.add(name)


def _option(options: object, key: str, value: str, *, append: bool) -> None:
    option: HeaderValueOption = options.add()  # type: ignore[attr-defined]  # a repeated field has no public type
    option.header.key = key
    option.header.value = value
    option.append.value = append
    option.append_action = _APPEND if append else _OVERWRITE


def _cut(text: str, length: int) -> str:
    """At most `length` bytes of UTF-8, whole characters."""
    if len(text) * 4 <= length:
        return text
    return text.encode()[:length].decode(errors="ignore")

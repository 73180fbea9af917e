from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from envoy.config.core.v3.base_pb2 import HeaderValueOption
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from google.protobuf import json_format

from mixer_py.calls import Call
from mixer_py.errors import (
    CounterStoreError,
    EvaluationError,
    InvalidRequestError,
    RequestParseError,
    UndefinedDecisionError,
)
from mixer_py.instruments import FakeClock, Registry
from mixer_py.policy.decision import Decision
from mixer_py.ratelimit.quota_settings import QuotaSettings
from mixer_py.ratelimit.quotas.charging import Quotas
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores.memory import MemoryStore
from mixer_py.services.ext_authz import Authorization, AuthorizationService
from mixer_py.telemetry.decision_record import DecisionRecord, ShadowOutcome
from tests.parts.oracle import Oracle

KEYS = {
    "decision_id",
    "mixer_verdict",
    "mixer_revision",
    "mixer_decision",
    "mixer_rule",
    "mixer_reasons",
    "mixer_quota",
    "mixer_quota_code",
    "mixer_quota_remaining",
}


class Records(list[DecisionRecord]):
    def record(self, record: DecisionRecord) -> None:
        self.append(record)


async def ask(
    answer: Decision | Exception, *, on_error: str = "error", dry_run: bool = False, records: Records | None = None
) -> CheckResponse:
    authorization = Authorization(Oracle(answer, dry_run=dry_run), "rev1", on_error, "bundle1")  # type: ignore[arg-type]
    service = AuthorizationService(authorization, records, Registry(), FakeClock())
    return CheckResponse.FromString(await service.check(CheckRequest().SerializeToString(), Call()))


def metadata(response: CheckResponse) -> dict[str, object]:
    return json_format.MessageToDict(response.dynamic_metadata)


def options(headers: object) -> list[tuple[str, str, bool, int]]:
    return [(o.header.key, o.header.value, o.append.value, o.append_action) for o in headers]  # type: ignore[attr-defined]


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize("plain", [True, False])
async def test_every_answer_carries_the_whole_metadata(allowed: bool, plain: bool) -> None:
    response = await ask(Decision(allowed, plain, reasons=("a", "b"), rule="data.x"))
    found = metadata(response)
    assert set(found) == KEYS
    assert found["mixer_verdict"] == ("allow" if allowed else "deny")
    assert found["mixer_reasons"] == "a; b"
    assert (found["mixer_rule"], found["mixer_revision"], found["mixer_decision"]) == (
        "data.x",
        "rev1",
        Oracle.path,
    )
    assert response.status.code == (0 if allowed else 7)
    assert response.WhichOneof("http_response") == (None if plain else "ok_response" if allowed else "denied_response")


async def test_two_checks_have_two_decision_ids() -> None:
    first, second = await ask(Decision(allowed=True)), await ask(Decision(allowed=True))
    assert metadata(first)["decision_id"] != metadata(second)["decision_id"]


async def test_the_policy_cannot_set_what_is_ours() -> None:
    given = {"decision_id": "forged", "mixer_verdict": "allow", "mixer_new": 1, "tenant": "acme", "nested": {"a": [1]}}
    found = metadata(await ask(Decision(allowed=False, dynamic_metadata=given)))
    assert set(found) == KEYS | {"tenant", "nested"}
    assert found["mixer_verdict"] == "deny"
    assert found["decision_id"] != "forged"


async def test_our_metadata_stays_below_four_kibibytes() -> None:
    response = await ask(Decision(allowed=False, reasons=("ü" * 100_000,), rule="r" * 100_000))
    assert sum(len(str(value).encode()) for value in metadata(response).values()) < 4096


async def test_header_options_say_the_same_twice_and_no_value_of_a_list_is_lost() -> None:
    overwrite, append = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD, HeaderValueOption.APPEND_IF_EXISTS_OR_ADD
    pairs = (("x-a", "1"), ("X-A", "2"), ("x-b", "3"))
    allowed = await ask(Decision(allowed=True, headers=pairs, response_headers_to_add=(("set-cookie", "c"),)))
    denied = await ask(Decision(allowed=False, headers=pairs, http_status=401, body="no"))
    want = [("x-a", "1", False, overwrite), ("X-A", "2", True, append), ("x-b", "3", False, overwrite)]
    assert options(allowed.ok_response.headers) == want
    assert options(denied.denied_response.headers) == want
    assert options(allowed.ok_response.response_headers_to_add) == [("set-cookie", "c", True, append)]
    assert all(option.HasField("append") for option in allowed.ok_response.headers)
    assert (denied.denied_response.status.code, denied.denied_response.body) == (401, "no")


async def test_an_unparsable_request_is_answered_400() -> None:
    records = Records()
    response = await ask(RequestParseError("bad escape"), records=records)
    assert (response.status.code, response.denied_response.status.code) == (7, 400)
    assert "bad escape" in response.denied_response.body
    assert metadata(response)["mixer_verdict"] == "deny"
    assert [(record.verdict, record.http_status) for record in records] == [("deny", 400)]
    assert [(record.revision, record.bundle_revision) for record in records] == [("rev1", "bundle1")]


@pytest.mark.parametrize("error", [UndefinedDecisionError("undefined"), EvaluationError("conflict")])
async def test_on_error_says_what_a_failed_evaluation_is_answered_with(error: EvaluationError) -> None:
    records = Records()
    with pytest.raises(type(error), match=r"decision [0-9a-f-]{36}"):
        await ask(error, records=records)
    denied = await ask(error, on_error="deny", records=records)
    allowed = await ask(error, on_error="allow", records=records)
    assert (denied.status.code, denied.denied_response.status.code) == (7, 403)
    assert (allowed.status.code, allowed.WhichOneof("http_response")) == (0, "ok_response")
    assert [metadata(response)["mixer_verdict"] for response in (denied, allowed)] == ["error", "error"]
    assert [(record.verdict, record.error) for record in records] == [("error", str(error))] * 3


async def test_dry_run_lets_a_denial_pass_and_remembers_it() -> None:
    records = Records()
    response = await ask(Decision(allowed=False, http_status=401, body="no"), dry_run=True, records=records)
    assert response.status.code == 0
    assert response.WhichOneof("http_response") is None
    assert metadata(response)["mixer_verdict"] == "deny"
    assert [(record.verdict, record.dry_run) for record in records] == [("deny", True)]
    with pytest.raises(EvaluationError):
        await ask(EvaluationError("still an error"), dry_run=True)


async def test_bytes_that_are_no_check_request_are_refused() -> None:
    service = AuthorizationService(
        Authorization(Oracle(Decision(allowed=True)), "rev1", "allow"),  # type: ignore[arg-type]
        None, Registry(), FakeClock(),
    )  # fmt: skip
    with pytest.raises(InvalidRequestError, match="CheckRequest"):
        await service.check(b"\xff\xff", Call())


async def test_checks_are_counted_by_verdict_and_timed_also_when_they_fail() -> None:
    registry = Registry()
    oracle = Oracle(Decision(allowed=True))
    service = AuthorizationService(Authorization(oracle, "r", "error"), None, registry, FakeClock())  # type: ignore[arg-type]
    for answer in (Decision(allowed=True), Decision(allowed=False), EvaluationError("x")):
        oracle.answer = answer
        with contextlib.suppress(EvaluationError):
            await service.check(b"", Call())
    counted = {
        (series.name, dict(series.labels).get("verdict") or dict(series.labels).get("outcome")): sum(
            values[:-1] or values
        )
        for series, values in registry.read()
    }
    for verdict in ("allow", "deny", "error"):
        assert counted["mixer_checks_total", verdict] == 1
        assert counted["mixer_stage_duration_seconds", verdict] == 1


async def test_a_decision_is_called_by_its_name_everywhere_but_where_its_path_is_meant() -> None:
    records, registry = Records(), Registry()
    oracle = Oracle(Decision(allowed=True))
    oracle.name = "payments"
    authorization = Authorization(oracle, "rev1", "error")  # type: ignore[arg-type]
    service = AuthorizationService(authorization, records, registry, FakeClock())
    response = CheckResponse.FromString(await service.check(b"", Call()))
    assert metadata(response)["mixer_decision"] == "payments"
    assert [(record.decision, record.path) for record in records] == [("payments", "envoy/authz/allow")]
    names = {dict(series.labels)["decision"] for series, _ in registry.read() if series.name == "mixer_checks_total"}
    assert names == {"payments"}


class Candidate:
    """A candidate that keeps records or not, and remembers what it was asked."""

    def __init__(self, *, keeps: bool) -> None:
        self.keeps = keeps
        self.asked: list[tuple[bytes, str, str, DecisionRecord | None]] = []

    def take(self, message: bytes, decision: str, verdict: str, record: DecisionRecord | None) -> bool:
        self.asked.append((message, decision, verdict, record))
        return self.keeps


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("answer", [Decision(allowed=False), RequestParseError("x"), EvaluationError("y")])
async def test_a_candidate_sees_every_check_as_it_came_and_its_record_is_kept_once(
    answer: Decision | Exception, keeps: bool
) -> None:
    records, candidate = Records(), Candidate(keeps=keeps)
    authorization = Authorization(Oracle(answer), "rev1", "error")  # type: ignore[arg-type]
    service = AuthorizationService(authorization, records, Registry(), FakeClock(), shadow=candidate)
    message = CheckRequest().SerializeToString()
    with contextlib.suppress(EvaluationError):
        await service.check(message, Call())
    ((asked, decision, verdict, record),) = candidate.asked
    assert (asked, decision) == (message, Oracle.path)
    assert record is not None
    assert record.verdict == verdict
    assert records == ([] if keeps else [record])


async def test_a_candidate_is_asked_without_a_log() -> None:
    candidate = Candidate(keeps=True)
    authorization = Authorization(Oracle(Decision(allowed=True)), "rev1", "error")  # type: ignore[arg-type]
    service = AuthorizationService(authorization, None, Registry(), FakeClock(), shadow=candidate)
    await service.check(b"", Call())
    assert candidate.asked == [(b"", Oracle.path, "allow", None)]


def charging(limit: str, *, on_error: str = "error", **keys: object) -> tuple[RateLimitSettings, FakeClock, Registry]:
    quota = QuotaSettings(name="q", limit=limit, **keys)  # type: ignore[arg-type]
    return RateLimitSettings(quotas=(quota,), max_counters=1, on_error=on_error), FakeClock(), Registry()  # type: ignore[arg-type]


async def test_a_candidate_is_compared_with_what_the_policy_said_and_not_with_its_quotas() -> None:
    limits, clock, registry = charging("0 / 1m")
    quotas = Quotas(limits, MemoryStore(clock, registry, 1), registry, clock)
    authorization = Authorization(Oracle(Decision(allowed=True)), "rev1", "error", quotas=quotas)  # type: ignore[arg-type]
    candidate = Candidate(keeps=True)
    service = AuthorizationService(authorization, Records(), registry, clock, shadow=candidate)
    assert CheckResponse.FromString(await service.check(b"", Call())).denied_response.status.code == 429
    ((_, _, verdict, record),) = candidate.asked
    assert verdict == "allow"
    assert record is not None
    assert (record.verdict, record.policy_verdict, record.http_status) == ("deny", "allow", 429)
    assert not replace(record, shadow=ShadowOutcome("allow")).differs
    assert replace(record, shadow=ShadowOutcome("deny")).differs


@pytest.mark.parametrize("on_error", ["error", "allow", "deny"])
async def test_a_quota_without_room_for_its_counter_is_what_on_error_says(on_error: str) -> None:
    limits, clock, registry = charging("9 / 1m", on_error=on_error, key=('request.headers["x"]',))
    quotas = Quotas(limits, MemoryStore(clock, registry, 1), registry, clock)
    decision = Decision(allowed=True, headers=(("x-policy", "1"),), reasons=("staff",))
    authorization = Authorization(Oracle(decision), "rev1", "allow", quotas=quotas)  # type: ignore[arg-type]
    records = Records()
    service = AuthorizationService(authorization, records, registry, clock)
    request = CheckRequest()
    for value in "ab":
        request.attributes.request.http.headers["x"] = value
        message = request.SerializeToString()
        if value == "b" and on_error == "error":
            with pytest.raises(CounterStoreError, match=r"quota q could not be counted: .* \(decision [0-9a-f-]{36}\)"):
                await service.check(message, Call())
        else:
            response = CheckResponse.FromString(await service.check(message, Call()))
    told = [(one.verdict, one.quota_name, one.quota_code, one.quota_remaining, one.http_status) for one in records]
    verdict, status = {"error": ("error", 0), "allow": ("allow", 0), "deny": ("deny", 429)}[on_error]
    assert told == [("allow", "q", "OK", 8, 0), (verdict, "q", "ERROR", None, status)]
    if on_error == "allow":
        assert options(response.ok_response.headers)[0][:2] == ("x-policy", "1")
        reasons = str(metadata(response)["mixer_reasons"])
        assert reasons.startswith("staff; quota q could not be counted: ")
    if on_error == "deny":
        assert (response.status.code, options(response.denied_response.headers)) == (8, [])

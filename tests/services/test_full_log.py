"""What a check is answered with when the decision log has no room (`decision_log.when_full`)."""

from __future__ import annotations

import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from google.protobuf import json_format

from mixer_py.calls import Call
from mixer_py.errors import EvaluationError, RequestParseError
from mixer_py.instruments import FakeClock, Registry
from mixer_py.policy.decision import Decision
from mixer_py.services.ext_authz import Authorization, AuthorizationService
from mixer_py.telemetry.decision_record import DecisionRecord
from tests.parts.oracle import Oracle


class Log(list[DecisionRecord]):
    """A log that is full or not, and lets pass or not."""

    def __init__(self, *, full: bool, may_pass: bool) -> None:
        super().__init__()
        self.full = full
        self.may_pass = may_pass
        self.asked: list[str] = []

    def record(self, record: DecisionRecord) -> None:
        self.append(record)

    def is_full(self, verdict: str, decision_id: str) -> bool:
        self.asked.append(decision_id)
        return self.full

    async def find_room(self, *, lets_through: bool) -> bool:
        return self.may_pass or not lets_through


async def ask(
    answer: Decision | Exception, log: Log, *, dry_run: bool = False, on_error: str = "error"
) -> CheckResponse:
    authorization = Authorization(Oracle(answer, dry_run=dry_run), "rev1", on_error)  # type: ignore[arg-type]
    service = AuthorizationService(authorization, log, Registry(), FakeClock(), log)
    return CheckResponse.FromString(await service.check(CheckRequest().SerializeToString(), Call()))


@pytest.mark.parametrize(
    ("answer", "dry_run", "on_error"),
    [
        (Decision(allowed=True), False, "error"),
        (Decision(allowed=True, plain=True), False, "error"),
        (Decision(allowed=False), True, "error"),
        (EvaluationError("odd"), False, "allow"),
    ],
)
async def test_what_would_have_passed_is_denied(answer: Decision | Exception, dry_run: bool, on_error: str) -> None:
    log = Log(full=True, may_pass=False)
    response = await ask(answer, log, dry_run=dry_run, on_error=on_error)
    metadata = json_format.MessageToDict(response.dynamic_metadata)
    assert (response.status.code, response.denied_response.status.code) == (7, 403)
    assert (metadata["mixer_verdict"], metadata["mixer_reasons"]) == ("error", "the decision log is full")
    assert [(one.verdict, one.http_status, one.decision_id) for one in log] == [("error", 403, metadata["decision_id"])]
    assert log.asked == [metadata["decision_id"]]


@pytest.mark.parametrize(
    ("answer", "status"), [(Decision(allowed=False, http_status=401), 401), (RequestParseError("bad escape"), 400)]
)
async def test_a_denial_stays_what_it_is(answer: Decision | Exception, status: int) -> None:
    log = Log(full=True, may_pass=False)
    response = await ask(answer, log)
    assert (response.status.code, response.denied_response.status.code) == (7, status)
    assert [(one.verdict, one.http_status) for one in log] == [("deny", status)]


async def test_an_error_stays_what_it_is() -> None:
    log = Log(full=True, may_pass=False)
    with pytest.raises(EvaluationError, match="odd"):
        await ask(EvaluationError("odd"), log)
    assert [one.error for one in log] == ["odd"]


@pytest.mark.parametrize("log", [Log(full=True, may_pass=True), Log(full=False, may_pass=False)])
async def test_where_it_may_pass_it_does(log: Log) -> None:
    response = await ask(Decision(allowed=True), log)
    assert response.status.code == 0
    assert [one.verdict for one in log] == ["allow"]
    assert isinstance(log[0].result, Decision)

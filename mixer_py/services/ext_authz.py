"""Answer Envoy's checks: CheckRequest bytes in, CheckResponse bytes out (envoy.service.auth.v3.Authorization).

Composes the policy with quotas, the answer, the candidate, the decision log and the counters. It holds what it needs
from the current snapshot in one reference, so that a reload is one assignment and a check never sees two revisions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from google.protobuf.message import DecodeError

from mixer_py.calls import Call
from mixer_py.errors import CounterStoreError, EvaluationError, InvalidRequestError, RequestParseError
from mixer_py.instruments import Clock, Counter, Histogram, Registry
from mixer_py.instruments.stages import stage_durations
from mixer_py.policy.decision import BYPASS, Decision, Ruling
from mixer_py.policy.policy import Policy
from mixer_py.policy.selection import Point
from mixer_py.ratelimit.quotas.charging import Quotas, unknown_quota
from mixer_py.ratelimit.quotas.outcome import NO_QUOTA, QuotaOutcome
from mixer_py.services.check_response import BAD_REQUEST, Answer, Verdict, let_pass, refuse, respond
from mixer_py.services.decision_ids import DecisionIds
from mixer_py.services.quota_answers import QuotaAnswers
from mixer_py.telemetry.decision_record import DecisionRecord

METHOD = "/envoy.service.auth.v3.Authorization/Check"
FORBIDDEN = 403
_MOST_READS = 100
"""References of the input that a row lists."""
_MOST_MADE = 10_000
"""Answers that are held, to decisions that may come again."""
LOG_IS_FULL = "the decision log is full"


class DecisionRecorder(Protocol):
    """Where checks are remembered."""

    def record(self, record: DecisionRecord) -> None:
        """Keeps one decision; never raises, never waits."""


class Shadow(Protocol):
    """A candidate that is asked about some of the checks."""

    def take(self, message: bytes, decision: str, verdict: str, record: DecisionRecord | None) -> bool:
        """Asks about a check that was decided; never raises, never waits.

        Args:
            message: the CheckRequest.
            decision: name of the decision that was made.
            verdict: what was decided.
            record: of the check; None where none is kept.

        Returns:
            Whether the record is kept from now on by the candidate, together with what it says.
        """


class LogRoom(Protocol):
    """Whether the decision log still has room, where a check may depend on that (`decision_log.when_full`)."""

    def is_full(self, verdict: str, decision_id: str) -> bool:
        """Whether this decision would be kept if there were room, and it matters that there is none."""

    async def find_room(self, *, lets_through: bool) -> bool:
        """Waits for it as long as may be; False when a request that would be let through must not be."""


@dataclass(frozen=True, slots=True)
class Authorization:
    """What checks need of one snapshot.

    Attributes:
        policy: decides.
        revision: of the snapshot.
        on_error: `error`, `deny` or `allow`.
        bundle_revision: what the manifests of the policy's bundles call it.
        quotas: what checks are charged for; None where there are none.
    """

    policy: Policy
    revision: str
    on_error: str
    bundle_revision: str = ""
    quotas: Quotas | None = None


class AuthorizationService:
    """The ext_authz service of one process."""

    def __init__(
        self,
        authorization: Authorization,
        decisions: DecisionRecorder | None,
        registry: Registry,
        clock: Clock,
        room: LogRoom | None = None,
        shadow: Shadow | None = None,
    ) -> None:
        """Starts with one snapshot's authorization; `activate` replaces it."""
        self._decisions = decisions
        self._shadow = shadow
        self._room = room
        self._clock = clock
        self._new_id = DecisionIds().draw
        self._quota_answers = QuotaAnswers()
        self._checks = registry.counter(
            "mixer_checks_total", "Checks by verdict.", ("decision", "verdict", "cache", "tier")
        )
        stages = stage_durations(registry)
        self._durations: dict[str, Histogram] = {
            name: stages.labels("ext_authz", "total", name) for name in ("allow", "deny", "error")
        }
        self.activate(authorization)

    def activate(self, authorization: Authorization) -> None:
        """Decides by another snapshot from the next check on."""
        labels = [
            (point.name, verdict, BYPASS, point.tier)
            for point in authorization.policy.points
            for verdict in self._durations
        ]
        self._counters: dict[tuple[str, str, str, str], Counter] = {one: self._checks.labels(*one) for one in labels}
        self._reads: dict[Point, str] = {point: _reads_of(point) for point in authorization.policy.points}
        self._made: dict[tuple[Point, int], tuple[Decision, Answer]] = {}
        self._authorization = authorization

    async def check(self, message: bytes, call: Call) -> bytes:  # noqa: ARG002 (the transport has judged the deadline)
        """Answers one check.

        Raises:
            InvalidRequestError: the bytes are no CheckRequest.
            EvaluationError: the policy failed and `policy.on_error` is `error`.
            CounterStoreError: a quota could not be counted and `rate_limit.on_error` is `error`.
        """
        clock = self._clock
        started, begun = clock.wall_ns(), clock.monotonic()
        authorization = self._authorization
        request = self._parse(message, begun)
        point = authorization.policy.select(request)
        decision_id = self._new_id()
        tier, cache = point.tier, BYPASS
        failure: EvaluationError | CounterStoreError | None = None
        said: Decision | None = None
        quota = NO_QUOTA
        try:
            ruling = await point.decide(request)
            tier, cache, said = ruling.tier, ruling.cache, ruling.decision
            answer = self._answer(authorization, point, ruling)
            if said.allowed and (authorization.quotas is not None or said.quotas):
                quota = await _charge(authorization.quotas, request, said)
                answer = self._quota_answers.answer(answer, said, quota, dry_run=point.dry_run)
        except RequestParseError as error:
            verdict = _verdict(authorization, point, "deny", "", f"request_parse_error: {error}")
            answer = refuse(verdict, BAD_REQUEST, verdict.reasons)
        except (EvaluationError, CounterStoreError) as error:
            failure = error
            answer = _failed(authorization, point, error)
        verdict, room = answer.verdict, self._room
        if (
            room is not None
            and room.is_full(verdict.name, decision_id)
            and not await room.find_room(lets_through=answer.passes)
        ):
            answer = _unlogged(verdict)
            verdict = answer.verdict
        duration = clock.monotonic() - begun
        self._count((point.name, verdict.name, cache, tier), duration)
        record = None
        fails = failure is not None and (authorization.on_error == "error" or isinstance(failure, CounterStoreError))
        if self._decisions is not None:
            status = 0 if fails else answer.http_status
            reasons, fault = (verdict.reasons, "") if failure is None else ("", verdict.reasons)
            record = DecisionRecord(
                request, started, duration, verdict.name, decision_id, verdict.decision, verdict.rule,
                reasons, fault, verdict.revision, status, tier, cache, point.dry_run, said,
                point.path, reads=self._reads.get(point, ""), bundle_revision=authorization.bundle_revision,
                quota_name=quota.name, quota_code=quota.code, quota_remaining=quota.remaining,
            )  # fmt: skip
        self._remember(message, point.name, "allow" if quota.code else verdict.name, record)
        if fails and failure is not None:
            raise type(failure)(f"{failure} (decision {decision_id})") from failure
        return answer.bytes_for(decision_id)

    def _answer(self, authorization: Authorization, point: Point, ruling: Ruling) -> Answer:
        """The answer to a ruling; that to a decision that may come again is made once."""
        decision = ruling.decision
        if not ruling.recurs:
            return _decided(authorization, point, decision)
        made = self._made.get((point, id(decision)))
        if made is not None and made[0] is decision:
            return made[1]
        answer = _decided(authorization, point, decision)
        if len(self._made) >= _MOST_MADE:
            self._made.clear()
        self._made[point, id(decision)] = (decision, answer)
        return answer

    def _parse(self, message: bytes, begun: float) -> CheckRequest:
        try:
            return CheckRequest.FromString(message)
        except DecodeError as error:
            default = self._authorization.policy.points[-1]
            self._count((default.name, "error", BYPASS, default.tier), self._clock.monotonic() - begun)
            raise InvalidRequestError(f"not a CheckRequest: {error}") from error

    def _remember(self, message: bytes, decision: str, verdict: str, record: DecisionRecord | None) -> None:
        """Keeps the record, at once or with what the candidate says."""
        if self._shadow is not None and self._shadow.take(message, decision, verdict, record):
            return
        if record is not None and self._decisions is not None:
            self._decisions.record(record)

    def _count(self, labels: tuple[str, str, str, str], duration: float) -> None:
        counter = self._counters.get(labels)
        if counter is None:
            counter = self._counters[labels] = self._checks.labels(*labels)
        counter.add()
        self._durations[labels[1]].observe(duration)


def _reads_of(point: Point) -> str:
    """What of the input can change a decision, as its rows say it."""
    return "; ".join(point.reads if len(point.reads) <= _MOST_READS else ("input",))


def _decided(authorization: Authorization, point: Point, decision: Decision) -> Answer:
    name = "allow" if decision.allowed else "deny"
    verdict = _verdict(authorization, point, name, decision.rule, "; ".join(decision.reasons))
    return respond(verdict, decision, enforce=not point.dry_run)


async def _charge(quotas: Quotas | None, request: CheckRequest, decision: Decision) -> QuotaOutcome:
    """What came of the quotas that match, and of those that the policy names.

    Raises:
        UnknownQuotaError: the policy names a quota that there is not.
    """
    if quotas is None:
        raise unknown_quota(decision.quotas[0].name, ())
    return await quotas.charge(request.attributes, decision.quotas)


def _failed(authorization: Authorization, point: Point, error: EvaluationError | CounterStoreError) -> Answer:
    """What a failed evaluation is answered with, unless it fails the call, as a store that is away does."""
    verdict = _verdict(authorization, point, "error", "", str(error))
    if authorization.on_error == "allow" and isinstance(error, EvaluationError):
        return let_pass(verdict)
    return refuse(verdict, FORBIDDEN)


def _unlogged(verdict: Verdict) -> Answer:
    """What would have been let through, and cannot be logged (`decision_log.when_full: deny`)."""
    return refuse(replace(verdict, name="error", reasons=LOG_IS_FULL), FORBIDDEN)


def _verdict(authorization: Authorization, point: Point, name: str, rule: str, reasons: str) -> Verdict:
    return Verdict(name, authorization.revision, point.name, rule, reasons)

"""Answer Envoy's checks: CheckRequest bytes in, CheckResponse bytes out (envoy.service.auth.v3.Authorization).

Composes the policy with the answer, the decision log and the counters. It holds what it needs from the current
snapshot in one reference, so that a reload is one assignment and a check never sees two revisions.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Protocol

from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from google.protobuf.message import DecodeError

from mixer_py.calls import Call
from mixer_py.errors import EvaluationError, InvalidRequestError, RequestParseError
from mixer_py.instruments import Clock, Counter, Histogram, Registry
from mixer_py.policy.decision import Decision
from mixer_py.policy.policy import Policy
from mixer_py.services.check_response import BAD_REQUEST, Verdict, let_pass, refuse, respond
from mixer_py.services.stages import stage_durations
from mixer_py.telemetry.decision_log import DecisionRecord

METHOD = "/envoy.service.auth.v3.Authorization/Check"
FORBIDDEN = 403
_BYPASS = "bypass"
"""Label `cache` of a check that no cache could answer."""


class DecisionRecorder(Protocol):
    """Where checks are remembered."""

    def record(self, record: DecisionRecord) -> None:
        """Keeps one decision; never raises, never waits."""


@dataclass(frozen=True, slots=True)
class Authorization:
    """What checks need of one snapshot.

    Attributes:
        policy: decides.
        revision: of the snapshot.
        on_error: `error`, `deny` or `allow`.
        dry_run: a denial is logged and not enforced.
    """

    policy: Policy
    revision: str
    on_error: str
    dry_run: bool


class AuthorizationService:
    """The ext_authz service of one process."""

    def __init__(
        self, authorization: Authorization, decisions: DecisionRecorder | None, registry: Registry, clock: Clock
    ) -> None:
        """Starts with one snapshot's authorization; `activate` replaces it."""
        self._decisions = decisions
        self._clock = clock
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
        path, tier = authorization.policy.decision, authorization.policy.tier
        self._counters: dict[str, Counter] = {
            name: self._checks.labels(path, name, _BYPASS, tier) for name in ("allow", "deny", "error")
        }
        self._authorization = authorization

    async def check(self, message: bytes, call: Call) -> bytes:  # noqa: ARG002 (the transport has judged the deadline)
        """Answers one check.

        Raises:
            InvalidRequestError: the bytes are no CheckRequest.
            EvaluationError: the policy failed and `policy.on_error` is `error`.
        """
        clock = self._clock
        started, begun = clock.wall_ns(), clock.monotonic()
        authorization = self._authorization
        try:
            request = CheckRequest.FromString(message)
        except DecodeError as error:
            self._count("error", begun)
            raise InvalidRequestError(f"not a CheckRequest: {error}") from error
        failure: EvaluationError | None = None
        try:
            decision = authorization.policy.decide(request)
        except RequestParseError as error:
            verdict = self._verdict(authorization, "deny", "", f"request_parse_error: {error}")
            response, status = refuse(verdict, BAD_REQUEST, verdict.reasons), BAD_REQUEST
        except EvaluationError as error:
            failure = error
            verdict, response, status = self._failed(authorization, error)
        else:
            verdict, response, status = self._decided(authorization, decision)
        self._count(verdict.name, begun)
        if self._decisions is not None:
            reasons, fault = (verdict.reasons, "") if failure is None else ("", verdict.reasons)
            self._decisions.record(
                DecisionRecord(
                    request, started, clock.monotonic() - begun, verdict.name, verdict.decision_id, verdict.decision,
                    verdict.rule, reasons, fault, verdict.revision, status, authorization.policy.tier, _BYPASS,
                    authorization.dry_run,
                )
            )  # fmt: skip
        if failure is not None and authorization.on_error == "error":
            raise type(failure)(f"{failure} (decision {verdict.decision_id})") from failure
        answer: bytes = response.SerializeToString()
        return answer

    def _decided(self, authorization: Authorization, decision: Decision) -> tuple[Verdict, CheckResponse, int]:
        name = "allow" if decision.allowed else "deny"
        verdict = self._verdict(authorization, name, decision.rule, "; ".join(decision.reasons))
        enforce = not authorization.dry_run
        status = 0 if decision.allowed or not enforce else decision.http_status
        return verdict, respond(verdict, decision, enforce=enforce), status

    def _failed(self, authorization: Authorization, error: EvaluationError) -> tuple[Verdict, CheckResponse, int]:
        """What a failed evaluation is answered with, unless it fails the call."""
        verdict = self._verdict(authorization, "error", "", str(error))
        if authorization.on_error == "allow":
            return verdict, let_pass(verdict), 0
        return verdict, refuse(verdict, FORBIDDEN), FORBIDDEN if authorization.on_error == "deny" else 0

    @staticmethod
    def _verdict(authorization: Authorization, name: str, rule: str, reasons: str) -> Verdict:
        return Verdict(name, str(uuid.uuid4()), authorization.revision, authorization.policy.decision, rule, reasons)

    def _count(self, verdict: str, begun: float) -> None:
        self._counters[verdict].add()
        self._durations[verdict].observe(self._clock.monotonic() - begun)

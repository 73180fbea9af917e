"""What quotas make of the answer to a check that the policy allowed.

The metadata of an answer that stays is put behind it as protobuf bytes: protobuf merges the parts of a message that
comes twice, and of two entries of a map with one key the later counts. So the answer to a decision that was made before
stays the same bytes, whatever its quotas say.
"""

from __future__ import annotations

from dataclasses import replace
from struct import Struct
from typing import Final

from envoy.service.auth.v3.external_auth_pb2 import CheckResponse

from mixer_py.errors import CounterStoreError
from mixer_py.policy.decision import Decision
from mixer_py.ratelimit.quotas.outcome import QuotaOutcome
from mixer_py.services.check_response import Answer, refuse_by_quota, respond

RULE: Final = "rate_limit.quotas."
"""Before a quota's name: the rule of a check that it denied."""
_DOUBLE: Final = Struct("<d")
_MOST_MADE: Final = 10_000


def _field(name: str, value: str | float) -> bytes:
    """A CheckResponse that holds this entry of the metadata and nothing else."""
    response = CheckResponse()
    entry = response.dynamic_metadata.fields[name]
    if isinstance(value, str):
        entry.string_value = value
    else:
        entry.number_value = value
    message: bytes = response.SerializeToString()
    return message


_REMAINING: Final = _field("mixer_quota_remaining", 0.0)[: -_DOUBLE.size]
"""All of that entry up to the number, which always takes eight bytes."""


class QuotaAnswers:
    """Answers with what quotas say. For one thread."""

    __slots__ = ("_fields",)

    def __init__(self) -> None:
        self._fields: dict[tuple[str, str], bytes] = {}

    def answer(self, before: Answer, decision: Decision, outcome: QuotaOutcome, *, dry_run: bool) -> Answer:
        """The answer to a check.

        Args:
            before: what the policy's decision alone would be answered with.
            decision: the policy's, which allowed.
            outcome: what came of the quotas.
            dry_run: a denial is only noted.

        Raises:
            CounterStoreError: the outcome's verdict is `error`.
        """
        if not outcome.code:
            return before
        if outcome.verdict == "error":
            raise CounterStoreError(outcome.reason)
        answer = before
        if outcome.verdict == "deny":
            verdict = replace(before.verdict, name="deny", rule=RULE + outcome.name, reasons=outcome.reason)
            if dry_run:
                answer = respond(verdict, decision, enforce=False)
            else:
                answer = refuse_by_quota(verdict, decision, outcome.headers)
        elif outcome.reason:
            reasons = "; ".join(filter(None, (before.verdict.reasons, outcome.reason)))
            answer = respond(replace(before.verdict, reasons=reasons), decision, enforce=not dry_run)
        return answer.with_fields(self._fields_of(outcome))

    def _fields_of(self, outcome: QuotaOutcome) -> bytes:
        """The metadata; what says nothing but which quota is made once."""
        made = self._fields.get((outcome.name, outcome.code))
        if made is None:
            if len(self._fields) >= _MOST_MADE:
                self._fields.clear()
            made = _field("mixer_quota", outcome.name) + _field("mixer_quota_code", outcome.code)
            self._fields[outcome.name, outcome.code] = made
        return made if outcome.remaining is None else made + _REMAINING + _DOUBLE.pack(outcome.remaining)

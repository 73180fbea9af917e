"""A candidate's verdicts are named as those of live checks, and nothing that it does gets out."""

from __future__ import annotations

import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

from mixer_py.errors import EvaluationError, RequestParseError, UndefinedDecisionError
from mixer_py.policy.decision import Decision
from mixer_py.services.candidate import judge
from mixer_py.telemetry.decision_record import ShadowOutcome
from tests.parts.oracle import Oracle


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Decision(allowed=True, rule="data.x"), ShadowOutcome("allow", "data.x", "", "r")),
        (Decision(allowed=False, reasons=("a", "b")), ShadowOutcome("deny", "", "a; b", "r")),
        (RequestParseError("bad"), ShadowOutcome("deny", "", "request_parse_error: bad", "r")),
        (UndefinedDecisionError("undefined"), ShadowOutcome("error", "", "undefined", "r")),
        (EvaluationError("conflict"), ShadowOutcome("error", "", "conflict", "r")),
        (ZeroDivisionError("oh"), ShadowOutcome("error", "", "ZeroDivisionError: oh", "r")),
    ],
)
async def test_every_end_of_an_evaluation_is_a_verdict(answer: Decision | Exception, outcome: ShadowOutcome) -> None:
    assert await judge(Oracle(answer), CheckRequest().SerializeToString()) == outcome  # type: ignore[arg-type]


async def test_what_is_no_check_request_is_an_error() -> None:
    assert (await judge(Oracle(Decision(allowed=True)), b"\xff\xff")).verdict == "error"  # type: ignore[arg-type]

"""What a candidate policy decides about one check. Never raises: whatever goes wrong in it is its own verdict."""

from __future__ import annotations

import structlog
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

from mixer_py.errors import EvaluationError, RequestParseError
from mixer_py.policy.policy import Policy
from mixer_py.telemetry.decision_record import ShadowOutcome


async def judge(policy: Policy, message: bytes) -> ShadowOutcome:
    """The verdict, as the service would have named it for a live check.

    Args:
        policy: the candidate.
        message: the CheckRequest.
    """
    revision = policy.revision
    try:
        request = CheckRequest.FromString(message)
        ruling = await policy.select(request).decide(request)
    except RequestParseError as error:
        return ShadowOutcome("deny", "", f"request_parse_error: {error}", revision)
    except EvaluationError as error:
        return ShadowOutcome("error", "", str(error), revision)
    except Exception as error:  # noqa: BLE001 (a fault of the candidate costs its verdict, not those that follow)
        structlog.get_logger("services").exception("a candidate failed as it never should")
        return ShadowOutcome("error", "", f"{type(error).__name__}: {error}", revision)
    decision = ruling.decision
    return ShadowOutcome("allow" if decision.allowed else "deny", decision.rule, "; ".join(decision.reasons), revision)

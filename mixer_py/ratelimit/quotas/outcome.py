"""What came of charging a check's quotas, in the words of metadata, rows and metrics.

Not for: charging (`charging.py`), or the answer to Envoy (`services/`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from mixer_py.ratelimit.algorithms import SECOND, Tally
from mixer_py.ratelimit.headers import RETRY_AFTER
from mixer_py.ratelimit.quotas.quota import Matched, Unmeasurable
from mixer_py.ratelimit.settings import HeaderSettings

OK: Final = "OK"
OVER_LIMIT: Final = "OVER_LIMIT"
SHADOW_OVER_LIMIT: Final = "SHADOW_OVER_LIMIT"
NOT_CHARGED: Final = "NOT_CHARGED"
"""There was room, but another quota of the same check had none."""
ERROR: Final = "ERROR"
"""Nobody could say what to charge, or the counter could not be kept."""


@dataclass(frozen=True, slots=True)
class QuotaOutcome:
    """What came of all quotas of one check.

    Attributes:
        verdict: `allow`; `deny`; `error` when the call has to fail.
        name: the quota that decided, or had the least left.
        code: of that quota: OK, OVER_LIMIT, SHADOW_OVER_LIMIT or ERROR.
        remaining: whole hits that it has left; None when nobody knows.
        reason: why it is denied, or would have been; empty when there is nothing to tell.
        headers: of the response to a denied request.
    """

    verdict: Literal["allow", "deny", "error"]
    name: str
    code: str
    remaining: int | None
    reason: str = ""
    headers: tuple[tuple[str, str], ...] = ()


NO_QUOTA: Final = QuotaOutcome("allow", "", "", None)
"""Of a check that no quota was charged for."""


def let_in(charged: Sequence[tuple[Matched, Tally]]) -> QuotaOutcome:
    """Every quota that may deny had room; a shadow one that had none is told before all others."""
    (quota, _, _), tally = min(charged, key=lambda one: (one[1].admitted, one[1].remaining))
    if tally.admitted:
        return QuotaOutcome("allow", quota.name, OK, tally.remaining)
    reasons = [one.quota.used_up for one, told in charged if not told.admitted]
    return QuotaOutcome("allow", quota.name, SHADOW_OVER_LIMIT, tally.remaining, f"{'; '.join(reasons)} (shadow)")


def over_limit(charged: Sequence[tuple[Matched, Tally]], names: HeaderSettings) -> QuotaOutcome:
    """One quota had no room or several; told of is the one for which it takes longest until there is some.

    Args:
        charged: every quota that may deny.
        names: of the headers.
    """
    over = [(matched, tally, _wait(matched, tally)) for matched, tally in charged if not tally.admitted]
    never = [one for one in over if one[2] is None]
    (quota, _, _), tally, wait = never[0] if never else max(over, key=lambda one: one[2] or 0)
    headers = [
        (names.limit, str(quota.terms.limit)),
        (names.remaining, str(tally.remaining)),
        (names.reset, str(-(-tally.reset // SECOND))),
    ]
    if wait is not None:
        headers.append((RETRY_AFTER, str(max(-(-wait // SECOND), 1))))
    reason = "; ".join(matched.quota.used_up for matched, _, _ in over)
    return QuotaOutcome("deny", quota.name, OVER_LIMIT, tally.remaining, reason, tuple(headers))


def unmeasurable(failed: Sequence[Unmeasurable]) -> QuotaOutcome:
    """What a check is to be charged is not known, and one of its quotas denies it for that."""
    reason = "; ".join(f"quota {one.quota.name}: its {one.part} has no value: {one.reason}" for one in failed)
    return QuotaOutcome("deny", failed[0].quota.name, ERROR, None, reason)


def unkept(verdict: Literal["allow", "deny", "error"], matched: Sequence[Matched], reason: str) -> QuotaOutcome:
    """The counters could not be kept; the verdict is `rate_limit.on_error`'s."""
    name = matched[0].quota.name
    return QuotaOutcome(verdict, name, ERROR, None, f"quota {name} could not be counted: {reason}")


def _wait(matched: Matched, tally: Tally) -> int | None:
    """Microseconds until the charge may fit, at the latest; None when it never will."""
    quota, charge, _ = matched
    if charge.hits > (quota.terms.burst or quota.terms.limit):
        return None
    return tally.retry if charge.hits <= 1 else max(tally.retry, tally.reset)

"""One decision as it is remembered: what was asked, what came of it, and what its row may show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from envoy.service.auth.v3.external_auth_pb2 import CheckRequest


@dataclass(frozen=True, slots=True)
class ShadowOutcome:
    """What a candidate policy made of a check.

    Attributes:
        verdict: `allow`, `deny` or `error`; `timeout` or `dropped` when it gave none.
        rule: which of its rules decided.
        reasons: why, joined by `; `, or what went wrong.
        revision: of the candidate; empty when it gave no verdict.
    """

    verdict: str
    rule: str = ""
    reasons: str = ""
    revision: str = ""


NO_SHADOW: Final = ShadowOutcome("")
"""Of a check that no candidate was asked about."""


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One check as it is remembered.

    Attributes:
        request: what was asked.
        started: wall clock, nanoseconds since the epoch.
        duration: seconds that the check took.
        verdict: `allow`, `deny` or `error`.
        decision_id: the join key.
        decision: the decision's name, which is its path when it has no other.
        rule: which rule decided.
        reasons: why, joined by `; `.
        error: what went wrong, when the verdict is `error`.
        revision: of the snapshot that decided.
        http_status: of a denial; 0 when the request was let through or the call failed.
        tier: which engine tier decided.
        cache: `hit`, `miss` or `bypass`.
        dry_run: the verdict was only noted.
        result: what the policy said, for `system.log`; None when it said nothing.
        path: of the decision, for `system.log`.
        shadow: what the candidate said.
        reads: references of the input that can change the decision, joined by `; `; empty when no policy was asked.
        bundle_revision: what the manifests of the policy's bundles call it.
        quota_name: the quota that decided, or had the least left; empty when none was charged.
        quota_code: `OK`, `OVER_LIMIT`, `SHADOW_OVER_LIMIT` or `ERROR`; empty when none was charged.
        quota_remaining: what was left of it; None when nobody knows.
    """

    request: CheckRequest
    started: int
    duration: float
    verdict: str
    decision_id: str
    decision: str
    rule: str
    reasons: str
    error: str
    revision: str
    http_status: int
    tier: str
    cache: str
    dry_run: bool
    result: object = None
    path: str = ""
    shadow: ShadowOutcome = NO_SHADOW
    reads: str = ""
    bundle_revision: str = ""
    quota_name: str = ""
    quota_code: str = ""
    quota_remaining: int | None = None

    @property
    def policy_verdict(self) -> str:
        """What the policy alone decided: quotas are charged only for what it allows."""
        return "allow" if self.quota_code else self.verdict

    @property
    def differs(self) -> bool:
        """Whether a candidate decided otherwise; it is a policy, and charges no quotas."""
        return self.shadow.verdict not in {"", "timeout", "dropped", self.policy_verdict}


@dataclass(frozen=True, slots=True)
class Kept:
    """What a row shows of the text that a client or a policy wrote.

    Attributes:
        input: JSON text; empty when nothing of the input is kept.
        erased: paths that were removed, joined by `; `.
        masked: paths whose value was replaced, joined by `; `.
        url_path: the path without its query.
        reasons: why.
        error: what went wrong.
        shadow_reasons: why the candidate decided so.
    """

    input: str
    erased: str
    masked: str
    url_path: str
    reasons: str
    error: str
    shadow_reasons: str = ""

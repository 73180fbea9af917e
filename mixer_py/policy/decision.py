"""What one evaluation decided: the result document, decoded and validated.

Not the CheckResponse; a service makes that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

Pairs = tuple[tuple[str, str], ...]
"""Names and values in order; a name may come more than once."""

BYPASS: Final = "bypass"
"""Label `cache` of a check that no cache could answer."""
HIT: Final = "hit"
"""Label `cache` of a check that was answered from the cache."""
MISS: Final = "miss"
"""Label `cache` of a check whose decision was not in the cache."""
NO_METADATA: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class QuotaAsked:
    """A quota that the policy wants charged.

    Attributes:
        name: of the quota, as `rate_limit.quotas` has it.
        key: parts of the counter's key; None for those of the quota's own expressions.
        hits: how many; None for the quota's own cost.
    """

    name: str
    key: tuple[str, ...] | None = None
    hits: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict, and what the policy wants done with the request or its answer.

    Only the fields that apply to the verdict are filled: the result's `headers` go to the upstream request when it is
    allowed, and to the client's response when it is denied (opa-envoy-plugin's rule).

    Attributes:
        allowed: the verdict.
        plain: the result was a bare boolean, so that a denial carries no HTTP response of its own.
        headers: headers for the upstream request (allowed) or the client's response (denied).
        response_headers_to_add: headers added to the client's response; allowed only.
        request_headers_to_remove: names of headers to take from the upstream request; allowed only.
        query_parameters_to_set: parameters of the upstream request; allowed only.
        query_parameters_to_remove: names of parameters to take from the upstream request; allowed only.
        http_status: status of the client's response; denied only.
        body: body of the client's response; denied only.
        dynamic_metadata: JSON values for Envoy's dynamic metadata, without the keys that are mixer's own.
        reasons: why, in the policy's words.
        rule: reference of the rule that decided, such as `data.envoy.authz.allow`.
        cache_ttl: how long the policy allows the decision to be used again, in seconds, 0 for not at all; None when it
            does not say.
        quotas: what the policy wants charged beside the quotas that match; allowed only.
    """

    allowed: bool
    plain: bool = False
    headers: Pairs = ()
    response_headers_to_add: Pairs = ()
    request_headers_to_remove: tuple[str, ...] = ()
    query_parameters_to_set: Pairs = ()
    query_parameters_to_remove: tuple[str, ...] = ()
    http_status: int = 403
    body: str = ""
    dynamic_metadata: Mapping[str, object] = field(default_factory=lambda: NO_METADATA)
    reasons: tuple[str, ...] = ()
    rule: str = ""
    cache_ttl: float | None = None
    quotas: tuple[QuotaAsked, ...] = ()


@dataclass(frozen=True, slots=True)
class Ruling:
    """A decision and how it came about.

    Attributes:
        decision: what was decided.
        tier: what evaluated it, as `mixer_checks_total{tier}` names it.
        cache: `hit`, `miss` or `bypass`.
        recurs: this very `decision` may come again, so that it pays to keep what is made of it.
    """

    decision: Decision
    tier: str
    cache: str
    recurs: bool = False

"""What a matched descriptor is held against: a rule, or the limit that a request brings along, ready to be charged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from envoy.service.ratelimit.v3 import rls_pb2

from mixer_py.instruments import Counter, Family
from mixer_py.ratelimit.algorithms import FIXED_WINDOW, SECOND, UNIT_SECONDS, Terms
from mixer_py.ratelimit.identity import window_name
from mixer_py.ratelimit.rules import Rule, rule_name

OVERRIDE = "(override)"
"""In a rule's place in names and labels, where the request brought its own limit."""

Unit = rls_pb2.RateLimitResponse.RateLimit.Unit
UNIT_NAMES = {number: name for name, number in Unit.items() if name in UNIT_SECONDS}
"""Names by number; `RateLimitOverride.unit` has the same numbers (envoy/type/v3/ratelimit_unit.proto)."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The cells of `mixer_rate_limits_total` for one domain and rule.

    Attributes:
        ok: the hit is let in.
        over_limit: it is not; under shadow mode it is let in.
    """

    ok: Counter
    over_limit: Counter


@dataclass(frozen=True, slots=True)
class Target:
    """A limit with everything that answering needs.

    Attributes:
        name: for `mixer_limit`.
        domain: the configured domain.
        terms: what hits are held against.
        window: algorithm and window, part of the counter's identity.
        unlimited: matched, but never counted.
        shadow_mode: counted, but answered OK.
        current_limit: `RateLimitResponse.RateLimit` as statuses carry it; never changed.
        outcomes: where its answers are counted.
    """

    name: str
    domain: str
    terms: Terms
    window: str
    unlimited: bool
    shadow_mode: bool
    current_limit: Any
    outcomes: Outcomes


def outcomes(decided: Family[Counter], domain: str, rule: str, *, shadow_mode: bool = False) -> Outcomes:
    """Looks the cells up once."""
    return Outcomes(
        ok=decided.labels(domain, rule, "OK"),
        over_limit=decided.labels(domain, rule, "SHADOW_OVER_LIMIT" if shadow_mode else "OVER_LIMIT"),
    )


def rule_target(rule: Rule, decided: Family[Counter]) -> Target:
    """The target of a configured rule."""
    terms = Terms(FIXED_WINDOW, rule.seconds * SECOND, rule.requests_per_unit, rule.requests_per_unit)
    return Target(
        name=rule.name,
        domain=rule.domain,
        terms=terms,
        window=window_name(terms),
        unlimited=rule.unlimited,
        shadow_mode=rule.shadow_mode,
        current_limit=rls_pb2.RateLimitResponse.RateLimit(
            name=rule.limit_name,
            requests_per_unit=rule.requests_per_unit,
            unit=Unit.Value(rule.unit or "UNKNOWN"),
        ),
        outcomes=outcomes(decided, rule.domain, rule.name, shadow_mode=rule.shadow_mode),
    )


def override_target(domain: str, requests_per_unit: int, unit: int, cells: Outcomes) -> Target:
    """The target of a limit that a request brought along; it has no shadow mode and no name of its author.

    Raises:
        KeyError: the unit is none.
    """
    seconds = UNIT_SECONDS[UNIT_NAMES[unit]]
    terms = Terms(FIXED_WINDOW, seconds * SECOND, requests_per_unit, requests_per_unit)
    return Target(
        name=override_name(domain),
        domain=domain,
        terms=terms,
        window=window_name(terms),
        unlimited=False,
        shadow_mode=False,
        current_limit=rls_pb2.RateLimitResponse.RateLimit(requests_per_unit=requests_per_unit, unit=unit),
        outcomes=cells,
    )


def override_name(domain: str) -> str:
    """What `mixer_limit` and the label `rule` say where a request brought its own limit."""
    return f"{rule_name(domain, ())}/{OVERRIDE}"

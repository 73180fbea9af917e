"""What a matched descriptor is held against: a rule, or the limit that a request brings along, ready to be charged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf.struct_pb2 import Struct

from mixer_py.ratelimit.algorithms import FIXED_WINDOW, SECOND, UNIT_SECONDS, Terms
from mixer_py.ratelimit.answering.statistics import RuleStatistics, Statistics, near_room
from mixer_py.ratelimit.answering.wording import Wording
from mixer_py.ratelimit.headers import policy_label
from mixer_py.ratelimit.identity import window_name
from mixer_py.ratelimit.rules import Rule, rule_name
from mixer_py.ratelimit.settings import RateLimitSettings

OVERRIDE = "(override)"
"""In a rule's place in names and labels, where the request brought its own limit."""

RateLimitOverride = Any  # the generated modules carry no types
Unit = rls_pb2.RateLimitResponse.RateLimit.Unit
UNIT_NAMES = {number: name for name, number in Unit.items() if name in UNIT_SECONDS}
"""Names by number; `RateLimitOverride.unit` has the same numbers (envoy/type/v3/ratelimit_unit.proto)."""


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
        quota_mode: over it, a request is refused only when every such limit is over.
        limit_name: the author's name for it; may be empty.
        replaces: names of limits that it switches off in the same request.
        replaced: switched off in this request: matched, but neither counted nor told.
        lease: hits that a worker takes ahead; 0 for none.
        metadata: what answers carry that it lets pass.
        wording: what answers say of it.
        statistics: where its answers and hits are counted.
        near_room: hits between the near mark and the limit.
        policy: name and policy for the headers.
    """

    name: str
    domain: str
    terms: Terms
    window: str
    unlimited: bool
    shadow_mode: bool
    quota_mode: bool
    limit_name: str
    replaces: frozenset[str]
    replaced: bool
    lease: int
    metadata: Struct | None
    wording: Wording
    statistics: RuleStatistics
    near_room: int
    policy: tuple[str, str]


def rule_target(rule: Rule, statistics: Statistics, settings: RateLimitSettings) -> Target:
    """The target of a configured rule."""
    metadata = Struct() if rule.metadata else None
    if metadata is not None:
        metadata.update(rule.metadata)
    terms = rule.terms
    limit = rls_pb2.RateLimitResponse.RateLimit(
        name=rule.limit_name, requests_per_unit=rule.requests_per_unit, unit=Unit.Value(rule.unit or "UNKNOWN")
    )
    return Target(
        name=rule.name,
        domain=rule.domain,
        terms=terms,
        window=window_name(terms),
        unlimited=rule.unlimited,
        shadow_mode=rule.shadow_mode,
        quota_mode=rule.quota_mode or settings.quota_mode,
        limit_name=rule.limit_name,
        replaces=rule.replaces,
        replaced=False,
        lease=rule.lease,
        metadata=metadata,
        wording=Wording(rule.name, limit),
        statistics=statistics.of(rule.domain, rule.name, shadow_mode=rule.shadow_mode),
        near_room=near_room(terms, settings.near_limit_ratio),
        policy=policy_label(rule.limit_name, terms),
    )


def override_target(
    domain: str,
    limit: RateLimitOverride,
    rule: Rule | None,
    statistics: RuleStatistics,
    settings: RateLimitSettings,
) -> Target:
    """The target of a limit that a request brought along; it has no modes of a rule and no name of its author.

    Args:
        domain: the configured domain.
        limit: `envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.RateLimitOverride`.
        rule: the one that the descriptor matches without it, whose counter it draws on when the windows are equal.
        statistics: of the domain's overrides.
        settings: of the near mark, and of quota mode.

    Raises:
        KeyError: its unit is none.
    """
    requests = limit.requests_per_unit
    window = UNIT_SECONDS[UNIT_NAMES[limit.unit]] * SECOND
    algorithm = rule.algorithm if rule is not None and rule.window_us == window else FIXED_WINDOW
    terms = Terms(algorithm, window, requests, requests)
    name = override_name(domain)
    return Target(
        name=name,
        domain=domain,
        terms=terms,
        window=window_name(terms),
        unlimited=False,
        shadow_mode=False,
        quota_mode=settings.quota_mode,
        limit_name="",
        replaces=frozenset(),
        replaced=False,
        lease=0,
        metadata=None,
        wording=Wording(name, rls_pb2.RateLimitResponse.RateLimit(requests_per_unit=requests, unit=limit.unit)),
        statistics=statistics,
        near_room=near_room(terms, settings.near_limit_ratio),
        policy=policy_label("", terms),
    )


def override_name(domain: str) -> str:
    """What `mixer_limit` and the label `rule` say where a request brought its own limit."""
    return f"{rule_name(domain, ())}/{OVERRIDE}"

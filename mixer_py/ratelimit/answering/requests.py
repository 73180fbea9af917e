"""Reads a RateLimitRequest: which limit each descriptor is held against, and what is charged.

Not for: bytes (`services/rate_limit.py`) or what the answer says (`responses.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from google.protobuf.unknown_fields import UnknownFieldSet

from mixer_py.errors import InvalidRequestError, PermissionDeniedError
from mixer_py.ratelimit.algorithms import MOST_USED
from mixer_py.ratelimit.answering.metadata import request_metadata
from mixer_py.ratelimit.answering.statistics import Statistics
from mixer_py.ratelimit.answering.targets import Target, override_name, override_target, rule_target
from mixer_py.ratelimit.answering.valued import ValuedTarget
from mixer_py.ratelimit.identity import counter_identity
from mixer_py.ratelimit.rules import Domain, Rule, Rules
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores import Charge

MAX_DESCRIPTORS = 1024
"""More descriptors than any route asks for; a request with more would hold up everybody else's."""

RateLimitRequest = Any  # envoy.service.ratelimit.v3.RateLimitRequest: the generated modules carry no types
Descriptor = Any

_NEGATIVE_HITS_FIELD = 4  # RateLimitDescriptor.is_negative_hits, newer than the protos we build on


class Asked(NamedTuple):
    """What a request asks for.

    Attributes:
        domain: of its rules; None for an unknown one.
        descriptors: how many there are.
        targets: what each descriptor is held against, None for one that no rule matches; empty in an unknown domain.
        charges: one for each target that has a limit and is not replaced, in their order.
        metadata: what the answer repeats of the request (`rate_limit.metadata`), a part of a RateLimitResponse; may be
            empty.
        recurs: the same bytes ask for the same again, whoever sends them.
        plain: every descriptor is charged, and by limits that neither know nor replace one another.
    """

    domain: Domain | None
    descriptors: int
    targets: Sequence[Target | None]
    charges: Sequence[Charge]
    metadata: bytes
    recurs: bool
    plain: bool


class RequestReader:
    """Reads requests by one revision of the rules."""

    def __init__(self, rules: Rules, statistics: Statistics, settings: RateLimitSettings) -> None:
        """Makes the target of every rule.

        Args:
            rules: what is limited.
            statistics: where the answers will be counted.
            settings: who may give hits back, when a limit is nearly used, quota mode, and how many values get a series.
        """
        self._domains = rules.domains
        self._settings = settings
        self._targets = [rule_target(rule, statistics, settings) for rule in rules]
        self._valued = {
            rule.index: ValuedTarget(
                rule, target, statistics, statistics.beyond_values(rule.domain, rule.name), settings.max_metric_values
            )
            for rule, target in zip(rules, self._targets, strict=True)
            if rule.valued
        }
        named = frozenset(name for target in self._targets for name in target.replaces)
        self._switched_off = {
            target.name: replace(target, replaced=True) for target in self._targets if target.limit_name in named
        }
        self._overrides = {name: statistics.of(name, override_name(name)) for name in rules.domains}
        self._negative_hits = settings.negative_hits
        givers = "nobody" if settings.negative_hits == "never" else "authenticated callers only"
        self._givers = f"negative hits are taken from {givers} (rate_limit.negative_hits)"

    def read(self, request: RateLimitRequest, *, authenticated: bool) -> Asked:
        """Says what is to be charged.

        Args:
            request: `envoy.service.ratelimit.v3.RateLimitRequest`.
            authenticated: whether it is known who asks (`Call.authenticated`).

        Raises:
            InvalidRequestError: no domain, no descriptors, too many of them, or an override without a unit.
            PermissionDeniedError: negative hits of a caller that may not give hits back.
        """
        descriptors = request.descriptors
        if not request.domain:
            raise InvalidRequestError("domain: the rate limit domain must not be empty")
        if not descriptors:
            raise InvalidRequestError("descriptors: the list of rate limit descriptors must not be empty")
        if len(descriptors) > MAX_DESCRIPTORS:
            raise InvalidRequestError(f"descriptors: {len(descriptors)} are more than {MAX_DESCRIPTORS}")
        metadata = request_metadata(request) if self._settings.metadata else b""
        domain = self._domains.get(request.domain)
        if domain is None:
            return Asked(None, len(descriptors), (), (), metadata, recurs=True, plain=False)
        may_give_back = self._negative_hits == "always" or (authenticated and self._negative_hits == "authenticated")
        replacing: set[str] = set()
        recurs = True
        targets: list[Target | None] = []
        charges: list[Charge] = []
        for position, descriptor in enumerate(descriptors):
            negative = bool(len(UnknownFieldSet(descriptor))) and self._is_negative(
                descriptor, position, allowed=may_give_back
            )
            target: Target | None
            if descriptor.HasField("limit"):
                target, entries = self._override(domain, descriptor, position)
            else:
                rule, entries = domain.match(descriptor.entries)
                target, counts = self._target(rule, entries)
                recurs = recurs and not counts
                if rule is not None and rule.replaces:
                    replacing |= rule.replaces
            recurs = recurs and not negative
            targets.append(target)
            if target is None or target.unlimited:
                continue
            # 0 only looks where the descriptor says it; the request's own 0 is the same as none (envoyproxy/ratelimit).
            hits = descriptor.hits_addend.value if descriptor.HasField("hits_addend") else request.hits_addend or 1
            hits = min(hits, MOST_USED)
            identity = counter_identity(target.domain, target.window, entries)
            charges.append(Charge(identity, target.terms, -hits if negative else hits, target.lease))
        if replacing:
            charges = self._switch_off(replacing, targets, charges)
        plain = len(charges) == len(targets) and not any(target is None or target.quota_mode for target in targets)
        return Asked(domain, len(descriptors), tuple(targets), tuple(charges), metadata, recurs, plain)

    def _target(self, rule: Rule | None, entries: Sequence[str]) -> tuple[Target | None, bool]:
        """A rule's target for what was matched, and whether finding it has counted something."""
        if rule is None:
            return None, False
        if not rule.valued:
            return self._targets[rule.index], False
        valued = self._valued[rule.index]
        target = valued.of(entries)
        return target, target is valued.beyond

    def _switch_off(self, names: set[str], targets: list[Target | None], charges: Sequence[Charge]) -> list[Charge]:
        """Marks the targets whose limits are named, and leaves out their charges; unlimited ones cannot be replaced."""
        kept: list[Charge] = []
        charged = iter(charges)
        for position, target in enumerate(targets):
            if target is None or target.unlimited:
                continue
            charge = next(charged)
            if target.limit_name in names:
                targets[position] = self._switched_off[target.name]
            else:
                kept.append(charge)
        return kept

    def _override(self, domain: Domain, descriptor: Descriptor, position: int) -> tuple[Target, tuple[str, ...]]:
        """The limit that a descriptor brings along; it draws on the counter of the rule with that window."""
        limit, statistics = descriptor.limit, self._overrides[domain.name]
        rule, entries = domain.match(descriptor.entries)
        if rule is None:
            entries = tuple(part for entry in descriptor.entries for part in (entry.key, entry.value))
        try:
            return override_target(domain.name, limit, rule, statistics, self._settings), entries
        except KeyError:
            raise InvalidRequestError(f"descriptors[{position}].limit.unit: {limit.unit} is no unit") from None

    def _is_negative(self, descriptor: Descriptor, position: int, *, allowed: bool) -> bool:
        """Whether a descriptor's hits are given back.

        Raises:
            PermissionDeniedError: they are, and that is not allowed.
        """
        unknown = UnknownFieldSet(descriptor)
        fields = (unknown[index] for index in range(len(unknown)))
        negative = any(field.field_number == _NEGATIVE_HITS_FIELD and field.data for field in fields)
        if negative and not allowed:
            raise PermissionDeniedError(f"descriptors[{position}].is_negative_hits: {self._givers}")
        return negative

"""Answers ShouldRateLimit: descriptors to rules, rules to charges, counts to statuses.

The semantics are envoyproxy/ratelimit's. Not for: bytes and calls (`services/rate_limit.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf.unknown_fields import UnknownFieldSet

from mixer_py.errors import CounterStoreError, InvalidRequestError
from mixer_py.instruments import Registry
from mixer_py.ratelimit.algorithms import SECOND, Tally
from mixer_py.ratelimit.identity import counter_identity
from mixer_py.ratelimit.rules import Domain, Rules
from mixer_py.ratelimit.settings import OnError
from mixer_py.ratelimit.stores import Charge, CounterStore
from mixer_py.ratelimit.targets import Target, outcomes, override_name, override_target, rule_target

UNLIMITED_REMAINING = 2**32 - 1
"""`limit_remaining` of a descriptor whose rule is unlimited."""
MAX_DESCRIPTORS = 1024
"""More descriptors than any route asks for; a request with more would hold up everybody else's."""

RateLimitRequest = Any  # envoy.service.ratelimit.v3.RateLimitRequest: the generated modules carry no types
RateLimitResponse = Any
Descriptor = Any

_NEGATIVE_HITS_FIELD = 4  # RateLimitDescriptor.is_negative_hits, newer than the protos we build on
_NO_RULE = "(none)"
_UNKNOWN_DOMAIN = "(unknown)"
_OK = rls_pb2.RateLimitResponse.OK
_OVER_LIMIT = rls_pb2.RateLimitResponse.OVER_LIMIT


class Limiter:
    """One revision of the rules, over a store that outlives it."""

    def __init__(self, rules: Rules, store: CounterStore, registry: Registry, on_error: OnError = "error") -> None:
        """Looks up everything that does not depend on the request.

        Args:
            rules: what is limited.
            store: where hits are counted.
            registry: gets `mixer_rate_limits_total{domain,rule,code}`, one for each descriptor.
            on_error: what a descriptor gets whose counter cannot be kept.
        """
        self.rules = rules
        self._store = store
        self._on_error = on_error
        decided = registry.counter(
            "mixer_rate_limits_total",
            "Descriptors by the rule that they matched and the answer that they got.",
            ("domain", "rule", "code"),
            max_label_sets=100_000,
        )
        self._decided = decided
        self._targets = [rule_target(rule, decided) for rule in rules]
        self._overrides = {name: outcomes(decided, name, override_name(name)) for name in rules.domains}
        self._unmatched = {name: decided.labels(name, _NO_RULE, "OK") for name in rules.domains}
        self._unknown_domain = decided.labels(_UNKNOWN_DOMAIN, _NO_RULE, "OK")

    async def should_rate_limit(self, request: RateLimitRequest) -> RateLimitResponse:
        """Counts the hits of every descriptor, and says of each whether it is over its limit.

        Args:
            request: `envoy.service.ratelimit.v3.RateLimitRequest`.

        Returns:
            `envoy.service.ratelimit.v3.RateLimitResponse` with a status for each descriptor, in their order, and
            `mixer_limit`, `mixer_code` and `mixer_remaining` as dynamic metadata.

        Raises:
            InvalidRequestError: no domain, no descriptors, too many of them, an override without a unit, or negative
                hits.
            CounterStoreError: a counter could not be kept, and `on_error` is `error`.
        """
        descriptors = request.descriptors
        if not request.domain:
            raise InvalidRequestError("domain: the rate limit domain must not be empty")
        if not descriptors:
            raise InvalidRequestError("descriptors: the list of rate limit descriptors must not be empty")
        if len(descriptors) > MAX_DESCRIPTORS:
            raise InvalidRequestError(f"descriptors: {len(descriptors)} are more than {MAX_DESCRIPTORS}")
        domain = self.rules.domains.get(request.domain)
        if domain is None:
            self._unknown_domain.add(len(descriptors))
            return _nothing_limited(len(descriptors))
        targets, charges = self._charges(domain, request)
        tallies: Sequence[Tally | None] = ()
        if charges:
            try:
                tallies = await self._store.charge(charges)
            except CounterStoreError:
                if self._on_error == "error":
                    for target in targets:
                        if target is not None and not target.unlimited:
                            self._count_failure(target)
                    raise
                tallies = (None,) * len(charges)
        return self._respond(domain, targets, tallies)

    def _charges(self, domain: Domain, request: RateLimitRequest) -> tuple[list[Target | None], list[Charge]]:
        """The target of each descriptor, and a charge for each target that has a limit."""
        hits_of_request = request.hits_addend or 1
        targets: list[Target | None] = []
        charges: list[Charge] = []
        for position, descriptor in enumerate(request.descriptors):
            if len(UnknownFieldSet(descriptor)):
                _refuse_negative_hits(descriptor, position)
            target: Target | None
            if descriptor.HasField("limit"):
                target, entries = self._override(domain, descriptor, position)
            else:
                rule, entries = domain.match(descriptor.entries)
                target = None if rule is None else self._targets[rule.index]
            targets.append(target)
            if target is None or target.unlimited:
                continue
            hits = descriptor.hits_addend.value if descriptor.HasField("hits_addend") else hits_of_request
            charges.append(Charge(counter_identity(target.domain, target.window, entries), target.terms, hits))
        return targets, charges

    def _override(self, domain: Domain, descriptor: Descriptor, position: int) -> tuple[Target, tuple[str, ...]]:
        limit = descriptor.limit
        try:
            target = override_target(domain.name, limit.requests_per_unit, limit.unit, self._overrides[domain.name])
        except KeyError:
            raise InvalidRequestError(f"descriptors[{position}].limit.unit: {limit.unit} is no unit") from None
        return target, tuple(part for entry in descriptor.entries for part in (entry.key, entry.value))

    def _respond(
        self, domain: Domain, targets: Sequence[Target | None], tallies: Sequence[Tally | None]
    ) -> RateLimitResponse:
        response = rls_pb2.RateLimitResponse(overall_code=_OK)
        deciding, least = "", UNLIMITED_REMAINING + 1
        charged = iter(tallies)
        for target in targets:
            status = response.statuses.add()
            status.code = _OK
            if target is None:
                self._unmatched[domain.name].add()
                continue
            if target.unlimited:
                left = status.limit_remaining = UNLIMITED_REMAINING
                target.outcomes.ok.add()
            else:
                tally = next(charged)
                if tally is None and self._allows_failure(target):
                    continue
                status.current_limit.CopyFrom(target.current_limit)
                over = tally is None or not tally.admitted
                left = 0 if tally is None else tally.remaining
                status.limit_remaining = left
                if tally is not None:
                    status.duration_until_reset.seconds = -(-tally.reset // SECOND)
                    (target.outcomes.over_limit if over else target.outcomes.ok).add()
                if over and not target.shadow_mode:
                    status.code = _OVER_LIMIT
                    left = -1  # decides before every descriptor that still has room
            if left < least:
                deciding, least = target.name, left
        if least < 0:
            response.overall_code = _OVER_LIMIT
        fields = response.dynamic_metadata.fields
        fields["mixer_limit"].string_value = deciding
        fields["mixer_code"].string_value = "OVER_LIMIT" if least < 0 else "OK"
        if deciding:
            fields["mixer_remaining"].number_value = max(least, 0)
        return response

    def _allows_failure(self, target: Target) -> bool:
        """Counts a counter that could not be kept, and says whether its hit is let in.

        Raises:
            CounterStoreError: `on_error` is `error`.
        """
        self._count_failure(target)
        if self._on_error == "error":
            raise CounterStoreError(f"no room for a new counter of {target.name}; raise rate_limit.max_counters")
        return self._on_error == "allow"

    def _count_failure(self, target: Target) -> None:
        """Looked up when it happens: it seldom does, and every rule would need a series for it."""
        self._decided.labels(target.domain, target.name, "ERROR").add()


def _nothing_limited(descriptors: int) -> RateLimitResponse:
    response = rls_pb2.RateLimitResponse(overall_code=_OK)
    for _ in range(descriptors):
        response.statuses.add().code = _OK
    response.dynamic_metadata.fields["mixer_limit"].string_value = ""
    response.dynamic_metadata.fields["mixer_code"].string_value = "OK"
    return response


def _refuse_negative_hits(descriptor: Descriptor, position: int) -> None:
    """A caller could refill its own quota with them; they are refused rather than counted as hits.

    Raises:
        InvalidRequestError: `is_negative_hits` is set.
    """
    unknown = UnknownFieldSet(descriptor)
    for field in (unknown[index] for index in range(len(unknown))):
        if field.field_number == _NEGATIVE_HITS_FIELD and field.data:
            raise InvalidRequestError(f"descriptors[{position}].is_negative_hits: negative hits are not allowed")

"""Writes a RateLimitResponse: a status for each descriptor, the verdict over all, metadata and headers.

The semantics are envoyproxy/ratelimit's. Not for: what is charged (`requests.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envoy.service.ratelimit.v3 import rls_pb2

from mixer_py.errors import CounterStoreError
from mixer_py.ratelimit.algorithms import SECOND, Tally
from mixer_py.ratelimit.headers import Headers, Told
from mixer_py.ratelimit.requests import Asked
from mixer_py.ratelimit.rules import Rules
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.statistics import NO_RULE, UNKNOWN_DOMAIN, Statistics
from mixer_py.ratelimit.targets import Target

UNLIMITED_REMAINING = 2**32 - 1
"""`limit_remaining` of a descriptor whose rule is unlimited."""

RateLimitResponse = Any  # envoy.service.ratelimit.v3.RateLimitResponse: the generated modules carry no types
DescriptorStatus = Any

_OVER = -1
"""Left of a descriptor that is over: it decides before every descriptor that still has room."""
_OK = rls_pb2.RateLimitResponse.OK
_OVER_LIMIT = rls_pb2.RateLimitResponse.OVER_LIMIT


class ResponseWriter:
    """Writes the answers of one revision of the rules."""

    def __init__(self, rules: Rules, statistics: Statistics, settings: RateLimitSettings) -> None:
        """Looks up everything that does not depend on the request.

        Args:
            rules: what is limited.
            statistics: where descriptors that no rule matches are counted.
            settings: `on_error`, `shadow_mode` and `headers`.
        """
        self._on_error = settings.on_error
        self._shadow_mode = settings.shadow_mode
        self._headers = None if settings.headers.of == "none" else Headers(settings.headers)
        self._unmatched = {name: statistics.of(name, NO_RULE).ok for name in rules.domains}
        self._unknown_domain = statistics.of(UNKNOWN_DOMAIN, NO_RULE).ok

    def write(self, asked: Asked, tallies: Sequence[Tally | None]) -> RateLimitResponse:
        """The answer, whose parts it counts.

        Args:
            asked: the request.
            tallies: what became of each of its charges; None for a counter that could not be kept.

        Returns:
            `envoy.service.ratelimit.v3.RateLimitResponse`. The deciding descriptor, which `mixer_limit` and the headers
            name, is the last one that is over, else the first of those with the least remaining.

        Raises:
            CounterStoreError: a counter could not be kept, and `on_error` is `error`.
        """
        if asked.domain is None:
            self._unknown_domain.add(asked.descriptors)
            return _nothing_limited(asked.descriptors)
        response = rls_pb2.RateLimitResponse(overall_code=_OK)
        deciding, least, retry = "", UNLIMITED_REMAINING + 1, 0
        told: list[Told] = []
        shown: Told | None = None
        charged = zip(asked.charges, tallies, strict=True)
        for position, target in enumerate(asked.targets):
            status = response.statuses.add()
            status.code = _OK
            if target is None:
                self._unmatched[asked.domain.name].add()
                continue
            one: Told | None = None
            if target.unlimited:
                left = status.limit_remaining = UNLIMITED_REMAINING
                target.statistics.ok.add()
            else:
                charge, tally = next(charged)
                if tally is None:
                    if self._allows_failure(target):
                        continue
                    left = _refuse(status, target)
                else:
                    left = _tell(status, target, charge.hits, tally)
                    one = Told(position, target.policy, target.terms, tally)
                    told.append(one)
                    retry = max(retry, tally.retry) if left < 0 else retry
            if left < least or left < 0:
                deciding, least, shown = target.name, left, one
        refused = least < 0 and not self._shadow_mode
        if refused:
            response.overall_code = _OVER_LIMIT
        if self._headers is not None:
            self._headers.write(response, told, shown, retry if refused else None)
        fields = response.dynamic_metadata.fields
        fields["mixer_limit"].string_value = deciding
        fields["mixer_code"].string_value = "OVER_LIMIT" if refused else "OK"
        if deciding:
            fields["mixer_remaining"].number_value = max(least, 0)
        return response

    def failed(self, asked: Asked) -> None:
        """Counts descriptors whose counters could not be kept, in a call that fails for it."""
        for target in asked.targets:
            if target is not None and not target.unlimited:
                target.statistics.error.add()

    def _allows_failure(self, target: Target) -> bool:
        """Counts a counter that could not be kept, and says whether its hit is let in.

        Raises:
            CounterStoreError: `on_error` is `error`.
        """
        target.statistics.error.add()
        if self._on_error == "error":
            raise CounterStoreError(f"no room for a new counter of {target.name}; raise rate_limit.max_counters")
        return self._on_error == "allow"


def _tell(status: DescriptorStatus, target: Target, hits: int, tally: Tally) -> int:
    """Fills in the status of a limited descriptor; what is left, or `_OVER` when it is over and that decides."""
    status.current_limit.CopyFrom(target.current_limit)
    status.limit_remaining = tally.remaining
    status.duration_until_reset.seconds = -(-tally.reset // SECOND)
    target.statistics.count(hits, tally, target.near_room)
    if tally.admitted or target.shadow_mode:
        return tally.remaining
    status.code = _OVER_LIMIT
    return _OVER


def _refuse(status: DescriptorStatus, target: Target) -> int:
    """Fills in the status of a descriptor whose counter could not be kept; what is left, or `_OVER`."""
    status.current_limit.CopyFrom(target.current_limit)
    if target.shadow_mode:
        return 0
    status.code = _OVER_LIMIT
    return _OVER


def _nothing_limited(descriptors: int) -> RateLimitResponse:
    response = rls_pb2.RateLimitResponse(overall_code=_OK)
    for _ in range(descriptors):
        response.statuses.add().code = _OK
    response.dynamic_metadata.fields["mixer_limit"].string_value = ""
    response.dynamic_metadata.fields["mixer_code"].string_value = "OK"
    return response

"""Writes a RateLimitResponse: a status for each descriptor, the verdict over all, metadata and headers.

The semantics are envoyproxy/ratelimit's. Not for: what is charged (`requests.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf.struct_pb2 import Struct

from mixer_py.errors import CounterStoreError
from mixer_py.ratelimit.algorithms import SECOND, Tally
from mixer_py.ratelimit.answering.metadata import write_metadata
from mixer_py.ratelimit.answering.requests import Asked
from mixer_py.ratelimit.answering.statistics import NO_RULE, UNKNOWN_DOMAIN, Statistics
from mixer_py.ratelimit.answering.targets import Target
from mixer_py.ratelimit.answering.verdict import OVER, UNLIMITED_REMAINING, Verdict
from mixer_py.ratelimit.headers import Headers, Told
from mixer_py.ratelimit.rules import Rules
from mixer_py.ratelimit.settings import RateLimitSettings

RateLimitResponse = Any  # envoy.service.ratelimit.v3.RateLimitResponse: the generated modules carry no types
DescriptorStatus = Any

_OK = rls_pb2.RateLimitResponse.OK
_OVER_LIMIT = rls_pb2.RateLimitResponse.OVER_LIMIT


class ResponseWriter:
    """Writes the answers of one revision of the rules."""

    def __init__(self, rules: Rules, statistics: Statistics, settings: RateLimitSettings) -> None:
        """Looks up everything that does not depend on the request.

        Args:
            rules: what is limited.
            statistics: where descriptors that no rule matches are counted.
            settings: `on_error`, `shadow_mode`, `headers` and `metadata`.
        """
        self._on_error = settings.on_error
        self._shadow_mode = settings.shadow_mode
        self._headers = None if settings.headers.of == "none" else Headers(settings.headers)
        self._metadata = settings.metadata
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
            CounterStoreError: a counter of a limit that is not in shadow mode could not be kept, and `on_error` is
                `error`.
        """
        response = rls_pb2.RateLimitResponse()
        told: list[Told] = []
        verdict = self._write_statuses(response, asked, tallies, told)
        over = verdict.close() and not self._shadow_mode
        response.overall_code = _OVER_LIMIT if over else _OK
        if self._headers is not None:
            self._headers.write(response, told, verdict.shown, verdict.retry if over else None)
        fields = response.dynamic_metadata.fields
        if self._metadata:
            write_metadata(fields, asked.request, _metadata_of_passed(response, asked))
        fields["mixer_limit"].string_value = verdict.name
        fields["mixer_code"].string_value = "OVER_LIMIT" if over else "OK"
        if verdict.name:
            fields["mixer_remaining"].number_value = max(verdict.left, 0)
        return response

    def _write_statuses(
        self, response: RateLimitResponse, asked: Asked, tallies: Sequence[Tally | None], told: list[Told]
    ) -> Verdict:
        """Adds a status for each descriptor, counts them, and gathers in `told` what headers tell of each."""
        verdict = Verdict()
        if asked.domain is None:
            descriptors = len(asked.request.descriptors)
            self._unknown_domain.add(descriptors)
            for _ in range(descriptors):
                response.statuses.add().code = _OK
            return verdict
        charged = zip(asked.charges, tallies, strict=True)
        for position, target in enumerate(asked.targets):
            status = response.statuses.add()
            status.code = _OK
            if target is None:
                self._unmatched[asked.domain.name].add()
            elif target.replaced:
                target.statistics.replaced.add()
            elif target.unlimited:
                status.limit_remaining = UNLIMITED_REMAINING
                target.statistics.ok.add()
                verdict.take(target, UNLIMITED_REMAINING, None)
            else:
                charge, tally = next(charged)
                if tally is not None:
                    one = Told(position, target.policy, target.terms, tally)
                    told.append(one)
                    verdict.take(target, _tell(status, target, charge.hits, tally), one)
                elif self._allows_failure(target):
                    verdict.let_in(target)
                else:
                    verdict.take(target, _refuse(status, target), None)
        return verdict

    def only_watches(self, asked: Asked) -> bool:
        """Whether every limit that is charged is in shadow mode, so that nothing is refused for lack of a counter."""
        return all(
            self._in_shadow_mode(target)
            for target in asked.targets
            if target is not None and not target.unlimited and not target.replaced
        )

    def failed(self, asked: Asked) -> None:
        """Counts descriptors whose counters could not be kept, in a call that fails for it."""
        for target in asked.targets:
            if target is not None and not target.unlimited and not target.replaced:
                target.statistics.error.add()

    def _allows_failure(self, target: Target) -> bool:
        """Counts a counter that could not be kept, and says whether its hit is let in.

        Raises:
            CounterStoreError: `on_error` is `error`, and the limit is not in shadow mode.
        """
        target.statistics.error.add()
        if self._on_error == "error":
            if self._in_shadow_mode(target):
                return True
            raise CounterStoreError(
                f"the counter of {target.name} could not be kept; mixer_store_errors_total says why"
            )
        return self._on_error == "allow"

    def _in_shadow_mode(self, target: Target) -> bool:
        return target.shadow_mode or self._shadow_mode


def _tell(status: DescriptorStatus, target: Target, hits: int, tally: Tally) -> int:
    """Fills in the status of a limited descriptor; what is left, or `OVER` when it is over and that decides."""
    status.current_limit.CopyFrom(target.current_limit)
    status.limit_remaining = tally.remaining
    status.duration_until_reset.seconds = -(-tally.reset // SECOND)
    target.statistics.count(hits, tally, target.near_room)
    if tally.admitted or target.shadow_mode:
        return tally.remaining
    status.code = _OVER_LIMIT
    return OVER


def _refuse(status: DescriptorStatus, target: Target) -> int:
    """Fills in the status of a descriptor whose counter could not be kept; what is left, or `OVER`."""
    status.current_limit.CopyFrom(target.current_limit)
    if target.shadow_mode:
        return 0
    status.code = _OVER_LIMIT
    return OVER


def _metadata_of_passed(response: RateLimitResponse, asked: Asked) -> Iterator[Struct]:
    for target, status in zip(asked.targets, response.statuses, strict=False):
        if target is not None and target.metadata is not None and status.code == _OK and not target.replaced:
            yield target.metadata

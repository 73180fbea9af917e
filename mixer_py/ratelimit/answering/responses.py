"""Writes a RateLimitResponse: a status for each descriptor, the verdict over all, metadata and headers.

The semantics are envoyproxy/ratelimit's. Not for: what is charged (`requests.py`), or bytes of parts (`wording.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from google.protobuf.struct_pb2 import Struct

from mixer_py.errors import CounterStoreError
from mixer_py.ratelimit.algorithms import Tally
from mixer_py.ratelimit.answering.metadata import passed_metadata
from mixer_py.ratelimit.answering.requests import Asked
from mixer_py.ratelimit.answering.statistics import NO_RULE, UNKNOWN_DOMAIN, Statistics
from mixer_py.ratelimit.answering.targets import Target
from mixer_py.ratelimit.answering.verdict import OVER, Verdict
from mixer_py.ratelimit.answering.wording import (
    UNDECIDED,
    UNLIMITED,
    UNLIMITED_REMAINING,
    UNMATCHED,
    ended,
    uncounted,
)
from mixer_py.ratelimit.headers import Headers, Told
from mixer_py.ratelimit.rules import Domain, Rules
from mixer_py.ratelimit.settings import RateLimitSettings


class Answer(NamedTuple):
    """What a request is answered with.

    Attributes:
        message: `envoy.service.ratelimit.v3.RateLimitResponse`, serialized.
        over: whether its code is OVER_LIMIT.
    """

    message: bytes
    over: bool


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
        self._only_statuses = self._headers is None and not self._metadata
        self._unmatched = {name: statistics.of(name, NO_RULE).ok for name in rules.domains}
        self._unknown_domain = statistics.of(UNKNOWN_DOMAIN, NO_RULE).ok

    def write(self, asked: Asked, tallies: Sequence[Tally | None]) -> Answer:
        """The answer, whose parts it counts.

        Args:
            asked: the request.
            tallies: what became of each of its charges; None for a counter that could not be kept.

        Returns:
            The deciding descriptor, which `mixer_limit` and the headers name, is the last one that is over, else the
            first of those with the least remaining.

        Raises:
            CounterStoreError: a counter of a limit that is not in shadow mode could not be kept, and `on_error` is
                `error`.
        """
        if asked.plain and self._only_statuses and None not in tallies:
            return self._plain(asked, tallies)
        if asked.domain is None:
            self._unknown_domain.add(asked.descriptors)
            return Answer(b"".join((UNMATCHED * asked.descriptors, asked.metadata, UNDECIDED)), over=False)
        verdict = Verdict()
        told: list[Told] = []
        passed: list[Struct] = []
        parts = self._statuses(asked, asked.domain, tallies, verdict, told, passed)
        over = verdict.close() and not self._shadow_mode
        if self._headers is not None:
            parts.append(self._headers.write(told, verdict.shown, verdict.retry if over else None))
        if self._metadata:
            parts += (asked.metadata, passed_metadata(passed))
        target = verdict.target
        if target is None:
            parts.append(UNDECIDED)
        else:
            wording = target.wording
            parts.append(ended(wording.refused if over else wording.allowed, max(verdict.left, 0)))
        return Answer(b"".join(parts), over)

    def _plain(self, asked: Asked, tallies: Sequence[Tally | None]) -> Answer:
        """What `write` makes of most requests, without what only others need."""
        parts: list[bytes] = []
        least, deciding, over = UNLIMITED_REMAINING + 1, None, False
        for target, charge, tally in zip(asked.targets, asked.charges, tallies, strict=True):
            if target is None or tally is None:
                raise AssertionError("a plain request has a limit for each descriptor, and every counter was kept")
            target.statistics.count(charge.hits, tally, target.near_room)
            wording, left = target.wording, tally.remaining
            if tally.admitted or target.shadow_mode:
                parts.append(wording.counted(wording.within, left, tally.reset))
                if left < least and not over:
                    least, deciding = left, wording
            else:
                parts.append(wording.counted(wording.over, left, tally.reset))
                least, deciding, over = 0, wording, True
        if deciding is None:
            raise AssertionError("what remains is less than of what is unlimited")
        over = over and not self._shadow_mode
        parts.append(ended(deciding.refused if over else deciding.allowed, least))
        return Answer(b"".join(parts), over)

    def _statuses(
        self,
        asked: Asked,
        domain: Domain,
        tallies: Sequence[Tally | None],
        verdict: Verdict,
        told: list[Told],
        passed: list[Struct],
    ) -> list[bytes]:
        """A status for each descriptor, which it counts and hands to the verdict.

        Gathers in `told` what headers tell of each, and in `passed` the metadata of those that are let in.
        """
        charged = zip(asked.charges, tallies, strict=True)
        parts: list[bytes] = []
        for position, target in enumerate(asked.targets):
            left = 0
            if target is None:
                parts.append(UNMATCHED)
                self._unmatched[domain.name].add()
                continue
            if target.replaced:
                parts.append(UNMATCHED)
                target.statistics.replaced.add()
                continue
            if target.unlimited:
                parts.append(UNLIMITED)
                target.statistics.ok.add()
                verdict.take(target, UNLIMITED_REMAINING, None)
            else:
                charge, tally = next(charged)
                if tally is not None:
                    target.statistics.count(charge.hits, tally, target.near_room)
                    wording, left = target.wording, tally.remaining
                    if tally.admitted or target.shadow_mode:
                        parts.append(wording.counted(wording.within, left, tally.reset))
                    else:
                        parts.append(wording.counted(wording.over, left, tally.reset))
                        left = OVER
                    one = None
                    if self._headers is not None:
                        one = Told(position, target.policy, target.terms, tally)
                        told.append(one)
                    verdict.take(target, left, one)
                elif self._allows_failure(target):
                    parts.append(UNMATCHED)
                    verdict.let_in(target)
                else:
                    left = 0 if target.shadow_mode else OVER
                    parts.append(uncounted(target.wording.over if left == OVER else target.wording.within))
                    verdict.take(target, left, None)
            if target.metadata is not None and left != OVER:
                passed.append(target.metadata)
        return parts

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

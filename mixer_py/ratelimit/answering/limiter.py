"""Answers ShouldRateLimit: what a request asks is read, charged and answered, each step timed.

Not for: the steps themselves (`requests.py`, `stores/`, `responses.py`), bytes and calls (`services/rate_limit.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from mixer_py.errors import CounterStoreError
from mixer_py.instruments import Clock, Registry
from mixer_py.instruments.stages import stage_durations
from mixer_py.ratelimit.algorithms import Tally
from mixer_py.ratelimit.answering.requests import Asked, RateLimitRequest, RequestReader
from mixer_py.ratelimit.answering.responses import RateLimitResponse, ResponseWriter
from mixer_py.ratelimit.answering.statistics import Statistics
from mixer_py.ratelimit.answering.targets import Target
from mixer_py.ratelimit.rules import Rules
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores import Charge, CounterStore


class Limiter:
    """One revision of the rules, over a store that outlives it."""

    def __init__(
        self,
        rules: Rules,
        store: CounterStore,
        registry: Registry,
        clock: Clock,
        settings: RateLimitSettings | None = None,
    ) -> None:
        """Looks up everything that does not depend on the request.

        Args:
            rules: what is limited.
            store: where hits are counted.
            registry: gets what `Statistics` counts, and the durations of the stage `store`.
            clock: of the durations.
            settings: how requests are read and answered; the defaults when None.
        """
        settings = settings or RateLimitSettings()
        statistics = Statistics(registry, shadow_mode=settings.shadow_mode)
        self.rules = rules
        self._store = store
        self._clock = clock
        self._fails = settings.on_error == "error"
        self._reader = RequestReader(rules, statistics, settings)
        self._writer = ResponseWriter(rules, statistics, settings)
        stages = stage_durations(registry)
        self._charged = stages.labels("rate_limit", "store", "ok")
        self._not_charged = stages.labels("rate_limit", "store", "error")

    async def should_rate_limit(self, request: RateLimitRequest, *, authenticated: bool = False) -> RateLimitResponse:
        """Counts the hits of every descriptor, and says of each whether it is over its limit.

        Args:
            request: `envoy.service.ratelimit.v3.RateLimitRequest`.
            authenticated: whether it is known who asks (`Call.authenticated`).

        Returns:
            `envoy.service.ratelimit.v3.RateLimitResponse` with a status for each descriptor, in their order, and
            `mixer_limit`, `mixer_code` and `mixer_remaining` as dynamic metadata.

        Raises:
            InvalidRequestError: no domain, no descriptors, too many of them, or an override without a unit.
            PermissionDeniedError: negative hits of a caller that may not give hits back.
            CounterStoreError: a counter of a limit that is not in shadow mode could not be kept, and `on_error` is
                `error`.
        """
        asked = self._reader.read(request, authenticated=authenticated)
        return self._writer.write(asked, await self._charge(asked) if asked.charges else ())

    async def look(self, request: RateLimitRequest) -> list[tuple[Target | None, Charge | None, Tally | None]]:
        """What a request that brings no hits would be held against, and what stands there; it is not counted.

        Args:
            request: `envoy.service.ratelimit.v3.RateLimitRequest` whose descriptors have no hits and no limits.

        Returns:
            For each descriptor its target, and for one that is counted the look and what it found.

        Raises:
            InvalidRequestError: no domain, no descriptors, or too many of them.
            CounterStoreError: the store is away.
        """
        asked = self._reader.read(request, authenticated=False)
        tallies = await self._store.charge(asked.charges) if asked.charges else ()
        looks = zip(asked.charges, tallies, strict=True)
        targets = asked.targets or (None,) * len(request.descriptors)
        counted = (target is not None and not (target.unlimited or target.replaced) for target in targets)
        return [
            (target, *(next(looks) if is_counted else (None, None)))
            for target, is_counted in zip(targets, counted, strict=True)
        ]

    async def _charge(self, asked: Asked) -> Sequence[Tally | None]:
        """What became of each charge; None for what could not be kept.

        Raises:
            CounterStoreError: nothing could be kept, and `on_error` is `error`; not under limits that are all in shadow
                mode.
        """
        began, took = self._clock.monotonic(), self._not_charged
        try:
            tallies = await self._store.charge(asked.charges)
            took = self._charged
        except CounterStoreError:
            if self._fails and not self._writer.only_watches(asked):
                self._writer.failed(asked)
                raise
            return (None,) * len(asked.charges)
        finally:
            took.observe(self._clock.monotonic() - began)
        return tallies

"""Answers ShouldRateLimit: what a request asks is read or known, charged and answered.

Not for: the steps themselves (`requests.py`, `known.py`, `stores/`, `responses.py`), calls (`services/rate_limit.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf.message import DecodeError

from mixer_py.errors import CounterStoreError, InvalidRequestError
from mixer_py.instruments import Clock, Registry
from mixer_py.instruments.stages import stage_durations
from mixer_py.ratelimit.algorithms import Tally
from mixer_py.ratelimit.answering.known import KnownRequests
from mixer_py.ratelimit.answering.requests import Asked, RateLimitRequest, RequestReader
from mixer_py.ratelimit.answering.responses import Answer, ResponseWriter
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
        self._known = KnownRequests()
        self._reader = RequestReader(rules, statistics, settings)
        self._writer = ResponseWriter(rules, statistics, settings)
        stages = stage_durations(registry)
        self._charged = stages.labels("rate_limit", "store", "ok")
        self._not_charged = stages.labels("rate_limit", "store", "error")

    async def answer(self, message: bytes, *, authenticated: bool = False) -> Answer:
        """Counts the hits of every descriptor, and says of each whether it is over its limit.

        Args:
            message: `envoy.service.ratelimit.v3.RateLimitRequest`.
            authenticated: whether it is known who asks (`Call.authenticated`).

        Returns:
            A status for each descriptor, in their order, and as dynamic metadata `mixer_limit`, `mixer_code` and
            `mixer_remaining`.

        Raises:
            InvalidRequestError: it is no such request, or has no domain, no descriptors, too many of them, or an
                override without a unit.
            PermissionDeniedError: negative hits of a caller that may not give hits back.
            CounterStoreError: a counter of a limit that is not in shadow mode could not be kept, and `on_error` is
                `error`.
        """
        asked = self._known.get(message) or self._read(message, authenticated=authenticated)
        if not asked.charges:
            return self._writer.write(asked, ())
        began, took = self._clock.monotonic(), self._not_charged
        tallies: Sequence[Tally | None]
        try:
            tallies = await self._store.charge(asked.charges)
            took = self._charged
        except CounterStoreError:
            if self._fails and not self._writer.only_watches(asked):
                self._writer.failed(asked)
                raise
            tallies = (None,) * len(asked.charges)
        finally:
            took.observe(self._clock.monotonic() - began)
        return self._writer.write(asked, tallies)

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
        targets = asked.targets or (None,) * asked.descriptors
        counted = (target is not None and not (target.unlimited or target.replaced) for target in targets)
        return [
            (target, *(next(looks) if is_counted else (None, None)))
            for target, is_counted in zip(targets, counted, strict=True)
        ]

    def _read(self, message: bytes, *, authenticated: bool) -> Asked:
        """What a request asks for that is not known.

        Raises:
            InvalidRequestError: see `answer`.
            PermissionDeniedError: see `answer`.
        """
        try:
            request = rls_pb2.RateLimitRequest.FromString(message)
        except DecodeError as error:
            raise InvalidRequestError(f"the message is no RateLimitRequest: {error}") from error
        asked = self._reader.read(request, authenticated=authenticated)
        if asked.recurs:
            self._known.keep(message, asked)
        return asked

"""Speaks Envoy's rate limit service v3: calls to the limiter, how long they took and how they ended.

Not for: what is limited, and what is said of it (`ratelimit/`).
"""

from __future__ import annotations

from mixer_py.calls import Call
from mixer_py.instruments import Clock, Registry
from mixer_py.instruments.stages import stage_durations
from mixer_py.ratelimit.answering.limiter import Limiter

METHOD = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
"""The full name of its one method."""

HEALTH_NAMES = ("ratelimit", METHOD.split("/")[1])
"""What health checkers ask for: envoyproxy/ratelimit's name, and the service's own."""


class RateLimitService:
    """Answers ShouldRateLimit with whatever limiter is current.

    Attributes:
        limiter: replaced by a reload; the store behind it, and so every count, stays.
    """

    __slots__ = ("_clock", "_durations", "limiter")

    def __init__(self, limiter: Limiter, clock: Clock, registry: Registry) -> None:
        self.limiter = limiter
        self._clock = clock
        stages = stage_durations(registry)
        self._durations = {
            outcome: stages.labels("rate_limit", "total", outcome) for outcome in ("ok", "over_limit", "error")
        }

    async def should_rate_limit(self, message: bytes, call: Call) -> bytes:
        """Answers one call.

        Args:
            message: `envoy.service.ratelimit.v3.RateLimitRequest`.
            call: who asks, which decides whether it may give hits back; lateness is the transport's business.

        Returns:
            `envoy.service.ratelimit.v3.RateLimitResponse`.

        Raises:
            InvalidRequestError: the message is no such request, or one that the protocol forbids.
            PermissionDeniedError: negative hits of a caller that may not give hits back.
            CounterStoreError: a counter could not be kept, and `on_error` is `error`.
        """
        started = self._clock.monotonic()
        outcome = "error"
        try:
            answer, over = await self.limiter.answer(message, authenticated=call.authenticated)
            outcome = "over_limit" if over else "ok"
            return answer
        finally:
            self._durations[outcome].observe(self._clock.monotonic() - started)

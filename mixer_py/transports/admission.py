"""Which calls are let in: a bound on those that wait, and none that nobody waits for any more."""

from __future__ import annotations

import asyncio

from mixer_py.calls import Call, UnaryHandler
from mixer_py.errors import DeadlinePassedError, OverloadedError
from mixer_py.instruments import Clock, Registry


class Admission:
    """Counts the calls in hand and refuses what is too many or too late, before any work is done."""

    def __init__(self, max_in_flight: int, clock: Clock, registry: Registry) -> None:
        self._max_in_flight = max_in_flight
        self._clock = clock
        self._in_flight = 0
        refused = registry.counter(
            "mixer_calls_refused_total", "Calls that were refused before any work was done.", ("reason",)
        )
        self._overloaded = refused.labels("overloaded")
        self._late = refused.labels("deadline")

    @property
    def in_flight(self) -> int:
        """Calls that wait or are worked on."""
        return self._in_flight

    async def run(self, handler: UnaryHandler, message: bytes, call: Call) -> bytes:
        """Runs a handler, if there is room and its caller still waits.

        Raises:
            OverloadedError: `max_in_flight` calls are in hand already.
            DeadlinePassedError: the deadline passed while the call waited for its turn.
        """
        if self._in_flight >= self._max_in_flight:
            self._overloaded.add()
            raise OverloadedError(f"{self._in_flight} calls are in flight already (server.max_in_flight)")
        self._in_flight += 1
        try:
            # One turn of the loop: every call that has arrived by now is let in or refused before any is worked on.
            await asyncio.sleep(0)
            if call.deadline is not None and call.deadline <= self._clock.monotonic():
                self._late.add()
                raise DeadlinePassedError("the deadline passed while the call waited")
            return await handler(message, call)
        finally:
            self._in_flight -= 1

"""Which calls are let in: a bound on those that wait, and none that nobody waits for any more."""

from __future__ import annotations

import asyncio

from mixer_py.calls import Call, UnaryHandler
from mixer_py.errors import DeadlinePassedError, OverloadedError
from mixer_py.instruments import Clock, Registry

_LONG_SECONDS = 0.01
"""A call that held the loop for so long may have others behind it."""
_QUIET_SECONDS = 0.005
"""gRPC hands waiting calls over a few at a time; when none has come for so long, all of them are in."""
_INTAKE_SECONDS = 0.1
"""How long calls are only let in, at most, before work goes on."""


class Admission:
    """Counts the calls in hand and refuses what is too many or too late, before any work is done."""

    def __init__(self, max_in_flight: int, clock: Clock, registry: Registry) -> None:
        self._max_in_flight = max_in_flight
        self._clock = clock
        self._in_flight = 0
        self._arrived = 0
        self._worked_on = 0
        self._intake: asyncio.Task[None] | None = None
        refused = registry.counter(
            "mixer_calls_refused_total", "Calls that were refused before any work was done.", ("reason",)
        )
        self._overloaded = refused.labels("overloaded")
        self._late = refused.labels("deadline")
        self._untaken = refused.labels("waiting")
        given_up = registry.counter(
            "mixer_calls_given_up_total",
            "Calls whose callers no longer waited, or went away, while they were worked on; that work was stopped.",
            ("reason",),
        )
        self._given_up = given_up.labels("cancelled")
        self._out_of_time = given_up.labels("deadline")

    @property
    def in_flight(self) -> int:
        """Calls that wait or are worked on."""
        return self._in_flight

    @property
    def arrived(self) -> int:
        """Calls that came here until now, those that were refused among them."""
        return self._arrived

    async def run(self, handler: UnaryHandler, message: bytes, call: Call) -> bytes:
        """Runs a handler, if there is room and its caller still waits.

        Raises:
            OverloadedError: `max_in_flight` calls are in hand already.
            DeadlinePassedError: the deadline passed while the call waited for its turn.
        """
        self._arrived += 1
        if self._in_flight >= self._max_in_flight:
            self._overloaded.add()
            raise OverloadedError(f"{self._in_flight} calls are in flight already (server.max_in_flight)")
        self._in_flight += 1
        try:
            # One turn of the loop: every call that has been handed over by now is let in or refused before any is
            # worked on. After a long call there is a crowd behind it, which is handed over first.
            try:
                await asyncio.sleep(0)
                if self._intake is not None:
                    await asyncio.shield(self._intake)
            except asyncio.CancelledError:
                self.waited_in_vain(call)
                raise
            begun = self._clock.monotonic()
            self._worked_on += 1
            turn = self._worked_on
            if call.deadline is not None and call.deadline <= begun:
                self._late.add()
                raise DeadlinePassedError("the deadline passed while the call waited")
            try:
                return await handler(message, call)
            except asyncio.CancelledError:
                self._count_given_up(call)
                raise
            finally:
                # Where others were worked on meanwhile, the call only waited, perhaps for another process.
                alone = turn == self._worked_on
                if alone and self._intake is None and self._clock.monotonic() - begun > _LONG_SECONDS:
                    self._intake = asyncio.create_task(self._let_in())
        finally:
            self._in_flight -= 1

    def count_untaken(self, calls: int) -> None:
        """Counts calls that ended before they came here: too many waited, or their callers gave up meanwhile."""
        self._untaken.add(calls)

    def waited_in_vain(self, call: Call) -> None:
        """Counts a call that ended before it was worked on, where its deadline was the reason."""
        if call.deadline is not None and call.deadline <= self._clock.monotonic():
            self._late.add()

    def _count_given_up(self, call: Call) -> None:
        late = call.deadline is not None and call.deadline <= self._clock.monotonic()
        (self._out_of_time if late else self._given_up).add()

    async def all_in(self, at_most: float) -> None:
        """Waits until every call that has arrived is let in or refused, `at_most` seconds."""
        end, arrived = self._clock.monotonic() + at_most, -1
        while arrived != self._arrived and self._clock.monotonic() < end:
            arrived = self._arrived
            await asyncio.sleep(_QUIET_SECONDS)

    async def _let_in(self) -> None:
        await self.all_in(_INTAKE_SECONDS)
        self._intake = None

"""Checks come before log entries: above a worker's capacity its log streams are not read on, so their clients wait.

Above it is a worker whose event loop never rests while calls come. Then reading stops, at the most for `_MOST_SECONDS`
in a row, so that logs are late and never stand still. What is not read waits with the client, by HTTP/2's flow control.
Not for: what becomes of a message that was read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mixer_py.instruments import Clock, Registry

_LOOK_SECONDS = 0.05
_BUSY = 0.9
"""The part of its time for which a loop wants a processor, above which it counts as one that never rests."""
_MOST_SECONDS = 0.5
"""Then streams are read for one look, a tenth of that, however many calls come."""
_ALONE_SECONDS = 1.0
"""When no call came for so long, none is expected to come and wait for log entries."""


class Precedence:
    """That of one worker's calls over its log streams."""

    def __init__(
        self,
        wanted: Callable[[], float],
        calls: Callable[[], int],
        clock: Clock,
        registry: Registry,
        *,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        """Lets streams be read.

        Args:
            wanted: seconds for which the loop's thread ran, or was ready to run, until now.
            calls: how many calls came until now.
            clock: of the looks.
            registry: of what is counted.
            look_seconds: between two looks.
        """
        self._look_seconds = look_seconds
        self._wanted = wanted
        self._calls = calls
        self._clock = clock
        self._waited = registry.counter(
            "mixer_access_log_yielded_seconds_total",
            "Seconds for which log streams were not read on because more calls came than a worker has time for.",
        ).labels()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._timer: asyncio.TimerHandle | None = None
        self._used = self._released = False
        self._paused_at = 0.0
        self._now, self._wanted_before, self._calls_before = 0.0, 0.0, 0
        self._called_at = clock.monotonic()

    @property
    def holds(self) -> bool:
        """Whether log streams have to wait now."""
        return not self._may_read.is_set()

    @property
    def alone(self) -> bool:
        """Whether log entries may be worked on in larger pieces, for no call has come for a while."""
        return self._calls() == self._calls_before and self._clock.monotonic() - self._called_at >= _ALONE_SECONDS

    def used(self) -> None:
        """A message of a log stream was read: looks now and then, until no more come."""
        self._used = True
        if self._timer is None and not self._released:
            self._begin()

    async def give_way(self) -> None:
        """Returns when the next message of a log stream may be read."""
        await self._may_read.wait()

    def release(self) -> None:
        """Lets everything be read from now on: this process drains, and what has come is not to be lost."""
        self._released = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._resume(self._clock.monotonic())

    def look(self) -> None:
        """Judges the time since it was called last."""
        now, wanted, calls = self._clock.monotonic(), self._wanted(), self._calls()
        above = wanted - self._wanted_before >= _BUSY * (now - self._now) and calls > self._calls_before
        if calls > self._calls_before:
            self._called_at = now
        self._now, self._wanted_before, self._calls_before = now, wanted, calls
        if not self.holds:
            if above:
                self._paused_at = now
                self._may_read.clear()
        elif not above or now - self._paused_at >= _MOST_SECONDS:
            self._resume(now)

    def _resume(self, now: float) -> None:
        if self.holds:
            self._waited.add(now - self._paused_at)
            self._may_read.set()

    def _begin(self) -> None:
        now, calls = self._clock.monotonic(), self._calls()
        if calls > self._calls_before:  # they came while nobody looked
            self._called_at = now
        self._now, self._wanted_before, self._calls_before = now, self._wanted(), calls
        self._timer = asyncio.get_running_loop().call_later(self._look_seconds, self._look_on)

    def _look_on(self) -> None:
        self.look()
        again = self._used or self.holds
        self._used = False
        self._timer = asyncio.get_running_loop().call_later(self._look_seconds, self._look_on) if again else None

"""Time as every room reads it, so that a test can decide what time it is."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """The two clocks a process has."""

    def wall(self) -> float:
        """Seconds since the epoch; may jump."""

    def wall_ns(self) -> int:
        """Nanoseconds since the epoch; may jump."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    # Not methods around them: a check looks at a clock seven times.
    wall = staticmethod(time.time)
    """Seconds since the epoch."""
    wall_ns = staticmethod(time.time_ns)
    """Nanoseconds since the epoch."""
    monotonic = staticmethod(time.monotonic)
    """Seconds from an arbitrary start."""


class FakeClock:
    """A clock that stands still until it is told to move."""

    __slots__ = ("_monotonic", "_wall_ns")

    def __init__(self, wall: float = 1_700_000_000.0, monotonic: float = 1000.0) -> None:
        self._wall_ns = int(wall * 1e9)
        self._monotonic = monotonic

    def advance(self, seconds: float) -> None:
        """Moves both clocks."""
        self._wall_ns += int(seconds * 1e9)
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Moves the wall clock only, as when somebody sets it."""
        self._wall_ns += int(seconds * 1e9)

    def wall(self) -> float:
        """Seconds since the epoch."""
        return self._wall_ns / 1e9

    def wall_ns(self) -> int:
        """Nanoseconds since the epoch."""
        return self._wall_ns

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        return self._monotonic

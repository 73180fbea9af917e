"""Counters in this process: exact, bounded, and dropped when their window is over.

Not for: counts shared between processes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from math import ceil, inf
from types import MappingProxyType
from typing import Final

from mixer_py.instruments import Clock, Registry
from mixer_py.ratelimit.stores import Charge, Identity

_REAPED_PER_CALL = 8
"""Dead counters freed by each call: more than a call usually makes, so that the dead always become fewer, and few
enough that the end of a window with a million counters stalls nobody."""


CounterKey = tuple[tuple[int, int], Identity]
"""A counter: its window, and whose it is."""
NOTHING: Final[Mapping[CounterKey, int]] = MappingProxyType({})


class _Window:
    """The counters of one window.

    It ends by the monotonic clock, counted from the last time it was used. So the wall clock decides which window a
    hit belongs to, but setting it drops no live counter.
    """

    __slots__ = ("counts", "deadline")

    def __init__(self, deadline: float) -> None:
        self.counts: dict[Identity, int] = {}
        self.deadline = deadline


class MemoryStore:
    """A CounterStore in memory, for one event loop.

    Attributes:
        capacity: most counters at one time; a reload may change it, and a smaller one drops nothing that lives.
    """

    def __init__(self, clock: Clock, registry: Registry, capacity: int) -> None:
        """Starts empty.

        Args:
            clock: its monotonic clock ends windows.
            registry: gets `mixer_store_errors_total{reason="memory_full"}`.
            capacity: most counters at one time, at least 1. Live ones are never evicted.
        """
        self.capacity = capacity
        self._clock = clock
        self._windows: dict[tuple[int, int], _Window] = {}
        self._next_deadline = inf
        self._dead: deque[dict[Identity, int]] = deque()
        self._size = 0  # counters in memory, live and dead
        self._full = registry.counter(
            "mixer_store_errors_total", "What a store could not keep, by reason.", ("reason",)
        ).labels("memory_full")

    @property
    def live(self) -> int:
        """Counters whose window is not over."""
        self._expire(self._clock.monotonic())
        return sum(len(window.counts) for window in self._windows.values())

    @property
    def held(self) -> int:
        """Counters that take memory, with those that are over but not freed yet; never above the capacity."""
        return self._size

    async def add(self, charges: Sequence[Charge]) -> Sequence[int | None]:
        """Adds each charge in turn; None for a new counter that found no place, which is counted."""
        monotonic = self._clock.monotonic()
        if monotonic >= self._next_deadline:
            self._expire(monotonic)
        if self._dead:
            self._reap(_REAPED_PER_CALL)
        counted: list[int | None] = []
        for identity, key, reset, hits in charges:
            deadline = monotonic + reset
            window = self._windows.get(key)
            if window is None:
                if not hits:
                    counted.append(0)  # a look makes no counter
                    continue
                window = self._windows[key] = _Window(deadline)
                self._next_deadline = min(self._next_deadline, deadline)
            elif deadline > window.deadline:
                window.deadline = deadline
            counts = window.counts
            count = counts.get(identity)
            if count is None:
                counted.append(self._open(counts, identity, hits))
            else:
                counts[identity] = count = count + hits
                counted.append(count)
        return counted

    def charges(self, already: Mapping[CounterKey, int] = NOTHING) -> Iterator[Charge]:
        """Every live counter as the charge that makes it again in another store, less what is there already.

        What is counted while this is read may be in it or not; a second look, with the first one as `already`, has
        the rest.

        Args:
            already: hits by counter that the other store has been given.
        """
        monotonic = self._clock.monotonic()
        self._expire(monotonic)
        for key, window in list(self._windows.items()):
            reset = ceil(window.deadline - monotonic)
            for identity in list(window.counts):
                hits = window.counts.get(identity, 0) - already.get((key, identity), 0)
                if hits:
                    yield Charge(identity, key, reset, hits)

    def _open(self, counts: dict[Identity, int], identity: Identity, hits: int) -> int | None:
        if not hits:
            return 0
        if self._size >= self.capacity:
            self._reap(1)
            if self._size >= self.capacity:
                self._full.add()
                return None
        self._size += 1
        counts[identity] = hits
        return hits

    def _expire(self, monotonic: float) -> None:
        """Sets aside the windows that are over: there are a few of them, however many counters they hold."""
        over = [key for key, window in self._windows.items() if window.deadline <= monotonic]
        for key in over:
            self._dead.append(self._windows.pop(key).counts)
        self._next_deadline = min((window.deadline for window in self._windows.values()), default=inf)

    def _reap(self, most: int) -> None:
        while most and self._dead:
            counts = self._dead[0]
            freed = min(most, len(counts))
            for _ in range(freed):
                counts.popitem()
            self._size -= freed
            most -= freed
            if not counts:
                self._dead.popleft()

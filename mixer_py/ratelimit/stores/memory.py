"""Counters in this process: exact, bounded, and dropped when nothing is counted against their limit any more.

Not for: counts shared between processes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from typing import NamedTuple

from mixer_py.instruments import Clock, Registry
from mixer_py.instruments.store_errors import store_errors
from mixer_py.ratelimit.algorithms import COUNT, SECOND, State, Tally
from mixer_py.ratelimit.stores import Charge, Identity

_REAPED_PER_CALL = 8
"""Counters looked at by each call that may be over: more than a call usually makes, so that the dead always become
fewer, and few enough that the end of a window with a million counters stalls nobody."""
_REAPED_WHEN_FULL = 64
"""The same for a call that finds no room for a new counter."""


class Held(NamedTuple):
    """A counter as another store is given it.

    Attributes:
        identity: whose it is.
        state: what it knows.
        deadline: seconds of the monotonic clock, which all processes of a machine share, after which it is over.
    """

    identity: Identity
    state: State
    deadline: float


class MemoryStore:
    """A CounterStore in memory, for one event loop.

    The wall clock decides which window a hit belongs to; the monotonic clock ends counters, so that setting the wall
    clock frees none that lives.

    Attributes:
        capacity: most counters at one time; a reload may change it, and a smaller one drops nothing that lives.
    """

    def __init__(self, clock: Clock, registry: Registry, capacity: int) -> None:
        """Starts empty.

        Args:
            clock: of windows and of their ends.
            registry: gets `mixer_store_errors_total{reason="memory_full"}`.
            capacity: most counters at one time, at least 1. Live ones are never evicted.
        """
        self.capacity = capacity
        self._clock = clock
        self._held: dict[Identity, tuple[State, float]] = {}
        self._ending: dict[int, list[Identity]] = {}
        """Counters by the second of the monotonic clock in which they may be over, and have to be looked at."""
        self._seconds: list[int] = []
        """The keys of `_ending`, the nearest first (a heap)."""
        self._over: deque[list[Identity]] = deque()
        self._journal: dict[Identity, tuple[Charge, int]] | None = None
        self._full = store_errors(registry).labels("memory_full")

    @property
    def live(self) -> int:
        """Counters that are not over; a walk through all."""
        now = self._clock.monotonic()
        return sum(deadline > now for _, deadline in self._held.values())

    @property
    def held(self) -> int:
        """Counters that take memory, with those that are over but not freed yet; never above the capacity."""
        return len(self._held)

    @property
    def is_away(self) -> bool:
        """Never: it is here."""
        return False

    async def charge(self, charges: Sequence[Charge], *, together: bool = False) -> Sequence[Tally | None]:
        """Charges each in turn; None for a new counter that found no place, which is counted."""
        monotonic = self._clock.monotonic()
        now = self._clock.wall_ns() // 1000
        if self._seconds and self._seconds[0] <= monotonic:
            self._collect(monotonic)
        if self._over:
            self._reap(_REAPED_PER_CALL, monotonic)
        if together and len(charges) > 1:
            return self._charge_together(charges, now, monotonic)
        return [self._charge(one, now, monotonic, always=not together and one.terms.always) for one in charges]

    def open(self) -> None:
        """Has nothing to connect to."""

    async def close(self) -> None:
        """Holds nothing outside this process."""

    def hand_on(self) -> Iterator[Held]:
        """Every live counter, for another store; what is charged from now on is kept for `charged_since`.

        What is counted while this is read may be in it or not; what is not, `charged_since` has.
        """
        self._journal = {}
        now = self._clock.monotonic()
        for identity in list(self._held):
            held = self._held.get(identity)
            if held is not None and held[1] > now:
                self._journal.pop(identity, None)
                yield Held(identity, *held)

    def charged_since(self) -> Iterator[Charge]:
        """What was charged since `hand_on`, and begins anew to keep it."""
        journal, self._journal = self._journal or {}, {}
        return (charge._replace(hits=hits) for charge, hits in journal.values() if hits)

    def take_on(self, counters: Iterable[Held]) -> int:
        """Goes on with counters that another store handed on; how many found no place.

        One that is here already is replaced: it is taken before anything is charged here.
        """
        lost = 0
        monotonic = self._clock.monotonic()
        for identity, state, deadline in counters:
            if not self._keep(identity, state, deadline, monotonic):
                lost += 1
        return lost

    def take_on_charges(self, charges: Iterable[Charge]) -> int:
        """Counts what another store admitted, whether it fits or not; how many counters found no place."""
        monotonic, now = self._clock.monotonic(), self._clock.wall_ns() // 1000
        return sum(self._charge(charge, now, monotonic, always=True) is None for charge in charges)

    def _charge_together(self, charges: Sequence[Charge], now: int, monotonic: float) -> Sequence[Tally | None]:
        wanted: dict[Identity, State] = {}
        tallies: list[Tally] = []
        for identity, terms, hits, _ in charges:
            state = wanted[identity] if identity in wanted else self._state(identity, monotonic)
            wanted[identity], tally = COUNT[terms.algorithm](state, now, terms, hits, always=False)
            tallies.append(tally)
        if not all(tally.admitted for tally in tallies):
            looks = (one._replace(hits=0) for one in charges)
            return [
                self._charge(look, now, monotonic, always=False) if tally.admitted else tally
                for look, tally in zip(looks, tallies, strict=True)
            ]
        new = [one.identity for one in charges if one.hits > 0 and one.identity not in self._held]
        if new and not self._has_room(len(set(new)), monotonic):
            self._full.add()
            return [None if one.identity in new else tally for one, tally in zip(charges, tallies, strict=True)]
        return [self._charge(one, now, monotonic, always=False) for one in charges]

    def _state(self, identity: Identity, monotonic: float) -> State | None:
        held = self._held.get(identity)
        return held[0] if held is not None and held[1] > monotonic else None

    def _charge(self, charge: Charge, now: int, monotonic: float, *, always: bool) -> Tally | None:
        identity, terms, hits, _ = charge
        held = self._held.get(identity)
        state = held[0] if held is not None and held[1] > monotonic else None
        after, tally = COUNT[terms.algorithm](state, now, terms, hits, always=always)
        if state is None and not after.used:
            return tally  # a look makes no counter, and neither does what was refused
        if held is not None:
            self._held[identity] = (after, monotonic + tally.reset / SECOND)
        elif not self._keep(identity, after, monotonic + tally.reset / SECOND, monotonic):
            return None
        if self._journal is not None and (tally.admitted or always):
            _, already = self._journal.get(identity, (charge, 0))
            self._journal[identity] = (charge, already + hits)
        return tally

    def _keep(self, identity: Identity, state: State, deadline: float, monotonic: float) -> bool:
        """Whether there is place for a counter; one that is held has it."""
        if identity not in self._held:
            if not self._has_room(1, monotonic):
                self._full.add()
                return False
            self._end(identity, deadline)
        self._held[identity] = (state, deadline)
        return True

    def _has_room(self, counters: int, monotonic: float) -> bool:
        """Whether so many new counters find place, perhaps that of counters which are over."""
        if len(self._held) + counters > self.capacity:
            self._reap(_REAPED_WHEN_FULL, monotonic)
        return len(self._held) + counters <= self.capacity

    def _end(self, identity: Identity, deadline: float) -> None:
        second = int(deadline) + 1
        ending = self._ending.get(second)
        if ending is None:
            ending = self._ending[second] = []
            heappush(self._seconds, second)
        ending.append(identity)

    def _collect(self, monotonic: float) -> None:
        """Sets aside the counters that may be over: whole lists, however many counters they hold."""
        while self._seconds and self._seconds[0] <= monotonic:
            self._over.append(self._ending.pop(heappop(self._seconds)))

    def _reap(self, most: int, monotonic: float) -> None:
        """Frees the counters that are over, of those that may be; the others are looked at again at their end."""
        self._collect(monotonic)
        while most > 0 and self._over:
            ending = self._over[0]
            looked_at = ending[-most:]
            del ending[-most:]
            most -= len(looked_at)
            for identity in looked_at:
                held = self._held.get(identity)
                if held is not None and held[1] <= monotonic:
                    del self._held[identity]
                    if self._journal is not None:
                        self._journal.pop(identity, None)
                elif held is not None:
                    self._end(identity, held[1])
            if not ending:
                self._over.popleft()

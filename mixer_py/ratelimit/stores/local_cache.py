"""Answers for counters that are known to be over, without asking the store again before a hit could fit.

A tally says until when not even one hit fits; what asks before then is refused here. Nothing but time or hits that are
given back can change that: after hits that another mixer gives back, this one refuses for up to `retry` longer.
Hits that are answered here are not counted in the store.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from typing import NamedTuple

from mixer_py.instruments import Clock, Registry
from mixer_py.ratelimit.algorithms import MOST_USED, SECOND, Tally, Terms
from mixer_py.ratelimit.stores import Charge, CounterStore, Identity


class _Over(NamedTuple):
    """What is known of a counter.

    Attributes:
        terms: that it was held against.
        retry: seconds of the monotonic clock until which no hit fits.
        reset: until which anything is counted.
    """

    terms: Terms
    retry: float
    reset: float


class LocalCache:
    """A CounterStore before another one, for one event loop."""

    def __init__(self, store: CounterStore, entries: int, registry: Registry, clock: Clock) -> None:
        """Starts empty.

        Args:
            store: that is asked for everything else; closed with this one.
            entries: most counters that are remembered, at least 1; the ones that were learnt first make room.
            registry: gets `mixer_counters_answered_locally_total`.
            clock: counts down.
        """
        self._store = store
        self._entries = entries
        self._clock = clock
        self._over: dict[Identity, _Over] = {}
        self._answered = registry.counter(
            "mixer_counters_answered_locally_total", "Charges refused without asking the store, which was known to."
        ).labels()

    @property
    def is_away(self) -> bool:
        """Whether the store is."""
        return self._store.is_away

    def open(self) -> None:
        """See `CounterStore.open`."""
        self._store.open()

    async def close(self) -> None:
        """See `CounterStore.close`."""
        await self._store.close()

    async def charge(self, charges: Sequence[Charge], *, together: bool = False) -> Sequence[Tally | None]:
        """See `CounterStore.charge`."""
        now = self._clock.monotonic()
        known = self._known(charges, now) if self._over else {}
        if not known:
            tallies = await self._store.charge(charges, together=together)
            if not together or len({one.identity for one in charges}) == len(charges):
                # else a tally may tell of hits before it on the same counter, which were not kept
                self._learn(charges, tallies, now)
            return tallies
        self._answered.add(len(known))
        unknown = [one for at, one in enumerate(charges) if at not in known]
        asked = [one._replace(hits=0) for one in unknown] if together else unknown
        told = await self._store.charge(asked) if asked else ()
        self._learn(asked, told, now)
        others = iter(_fitting(unknown, told) if together else told)
        return [known[at] if at in known else next(others) for at in range(len(charges))]

    def _known(self, charges: Sequence[Charge], now: float) -> dict[int, Tally]:
        """The charges that cannot fit, by their places, and what is said of them."""
        known = {}
        for place, (identity, terms, hits, *_) in enumerate(charges):
            over = self._over.get(identity)
            if over is None or not hits:
                continue
            if hits < 0 or over.retry <= now:
                del self._over[identity]
            elif over.terms == terms:
                reset, retry = ceil((over.reset - now) * SECOND), ceil((over.retry - now) * SECOND)
                known[place] = Tally(False, 0, min(hits, MOST_USED), reset, retry, local=True)  # noqa: FBT003 (a tuple's member)
        return known

    def _learn(self, charges: Sequence[Charge], tallies: Sequence[Tally | None], asked: float) -> None:
        """Remembers what is over; counted from when it was asked, so that no hit that fits is refused."""
        for charge, tally in zip(charges, tallies, strict=True):
            if tally is None or charge.terms.overdraw:  # what is over has to be counted, too
                continue
            if not tally.retry:
                self._over.pop(charge.identity, None)
                continue
            if charge.identity not in self._over and len(self._over) >= self._entries:
                del self._over[next(iter(self._over))]
            self._over[charge.identity] = _Over(
                charge.terms, asked + tally.retry / SECOND, asked + tally.reset / SECOND
            )


def _fitting(charges: Sequence[Charge], looks: Sequence[Tally | None]) -> Iterator[Tally | None]:
    """What looks say of charges that are not made: whether they would fit, each with those before it."""
    before: dict[Identity, int] = {}
    for (identity, _, hits, *_), look in zip(charges, looks, strict=True):
        taken = before.get(identity, 0)
        if look is None or hits <= look.remaining - taken:
            before[identity] = taken + hits
            yield look
        else:
            left = look.remaining - taken
            yield look._replace(admitted=False, remaining=left, over=min(hits, MOST_USED))

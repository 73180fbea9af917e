"""A store that answers by itself from hits that it took ahead of a shared one: Mixer's quota prefetch, made safe.

A counter whose rule has a lease is asked in the shared store once. Behind the answer a part of what is left is charged
there ahead, and the next hits are met from it here, until half is used; then more is taken, again behind the answers.
Every charge that is not met here goes to the shared store as it is, with all that it means there (a fixed window counts
hits that do not fit, too). So the shared store never counts less than what was let in; `lease_bounds.py` says what
follows for the limits.

- A charge is met from here only under the terms and the lease that the hits were taken for. An override in a request
  has no lease, so it is held against the counter itself; after a reload that changes limit or lease the hits go back.
- When a counter has too little left the part shrinks, and at last every hit is asked for: the quota is used to its end.
- With the store away, what is held is used up; then its error is the answer.
- What is not used goes back where that is safe (`shares.py`): when it has lasted its time, when the rule has changed,
  and when the worker is drained or hands over. Sent before the last second of a window, it can only do harm if the
  store hangs for longer than that and then counts it in the next window, which is let in more by at most that much.
- A worker that stands still (SIGSTOP) has decided before or decides after; the monotonic clock went on.

Not for: counters in this process, which a lease could make no faster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Final, NamedTuple

from mixer_py.errors import CounterStoreError
from mixer_py.instruments import Clock, Registry
from mixer_py.ratelimit.algorithms import Tally
from mixer_py.ratelimit.lease_bounds import LARGEST_PART
from mixer_py.ratelimit.stores import Charge, CounterStore, Identity
from mixer_py.ratelimit.stores.lease_metrics import LeaseMetrics
from mixer_py.ratelimit.stores.returns import Returns
from mixer_py.ratelimit.stores.shares import Share, Taken

MOST_LEASED: Final = 100_000
"""Counters of which hits are held at one time, at about 1 KB each; those beyond are asked in the shared store."""
_TRIES: Final = 4
"""How often a smaller part is tried when others were faster, before the counter is left to be asked each time."""
_PAUSE: Final = 0.25
"""Seconds for which no more is taken of a counter after the store has failed."""
_TICK: Final = 0.25
"""Seconds between two looks for hits that have lasted their time."""


class _Drawn(NamedTuple):
    """Hits that were drawn from what is held, and go back there if the charge comes to nothing.

    Attributes:
        position: of their charge among the charges.
        share: of which counter.
        taken: where they come from.
        hits: how many.
    """

    position: int
    share: Share
    taken: Taken
    hits: int


class LeasingStore:
    """A CounterStore before a shared one, for one event loop."""

    def __init__(self, shared: CounterStore, clock: Clock, registry: Registry, most: int = MOST_LEASED) -> None:
        """Holds nothing yet.

        Args:
            shared: counts for all workers; closed with this.
            clock: whose monotonic time ends what is held.
            registry: gets the metrics of `lease_metrics.py`.
            most: counters of which hits are held at one time.
        """
        self._shared = shared
        self._clock = clock
        self._most = most
        self._metrics = LeaseMetrics(registry)
        self._shares: dict[Identity, Share] = {}
        self._ends: list[tuple[float, int, Share]] = []
        """Shares by when some of their hits are over, the nearest first (a heap); each once."""
        self._numbers = count()
        self._returns = Returns(shared, self._metrics)
        self._takes: set[asyncio.Task[None]] = set()
        self._ticking: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def held(self) -> int:
        """Hits that are held and not used yet; a walk through all."""
        return sum(
            share.taken.left + (share.following.left if share.following else 0) for share in self._shares.values()
        )

    @property
    def is_away(self) -> bool:
        """Whether the shared store is."""
        return self._shared.is_away

    def open(self) -> None:
        """Opens the shared store, and begins to look for hits that have lasted their time."""
        self._shared.open()
        self._ticking = asyncio.create_task(self._tick())

    async def charge(self, charges: Sequence[Charge], *, together: bool = False) -> Sequence[Tally | None]:
        """Charges each in turn, from what is held where that is enough.

        Args:
            charges: of one request.
            together: all of them, or none when one does not fit, wherever each is met from.

        Returns:
            What became of each. With the shared store away it is None for those that it was needed for, if others
            were met from here.

        Raises:
            CounterStoreError: the shared store is away, and nothing was met from here, or they are charged together.
        """
        now = self._clock.monotonic()
        if len(charges) == 1 and charges[0].lease:  # what most requests are, without what only others need
            share = self._shares.get(charges[0].identity)
            tally = None if share is None else self._meet(share, charges[0], now)
            if tally is not None:
                self._metrics.answered_here.add()
                self._metrics.used.add(charges[0].hits)
                return (tally,)
            return await self._ask(charges, [None], (0,), (), now, together=together)
        answers: list[Tally | None] = []
        asked: list[int] = []
        met: list[_Drawn] = []
        leased = False
        for position, charge in enumerate(charges):
            tally = share = None
            if charge.lease:
                leased = True
                share = self._shares.get(charge.identity)
                if share is not None:
                    tally = self._meet(share, charge, now)
            if tally is None:
                asked.append(position)
            elif share is not None:
                met.append(_Drawn(position, share, share.taken, charge.hits))
            answers.append(tally)
        if not leased:
            return await self._shared.charge(charges, together=together)
        if asked:
            return await self._ask(charges, answers, asked, met, now, together=together)
        self._count_met(met)
        return answers

    async def give_back(self) -> None:
        """Gives back all that is held and can go back; what is needed afterwards is taken anew."""
        if self._takes:
            await asyncio.wait(set(self._takes))
        now = self._clock.monotonic()
        for share in list(self._shares.values()):
            self._drop(share, now)
        await self._returns.settle()

    async def close(self) -> None:
        """Gives back what is held, and closes the shared store."""
        self._closed = True
        if self._ticking is not None:
            self._ticking.cancel()
        try:
            await self.give_back()
        finally:
            await self._shared.close()

    def sweep(self) -> None:
        """Ends what has lasted its time; `open` has it done four times a second."""
        now = self._clock.monotonic()
        ends = self._ends
        while ends and ends[0][0] <= now:
            _, _, share = heappop(ends)
            if share.gone:
                continue
            self._end(share, now)
            if share.taken.retired and not share.coming:
                self._drop(share, now)
            else:
                self._watch(share, now)

    def _meet(self, share: Share, charge: Charge, now: float) -> Tally | None:
        """The answer from what is held; None when the shared store has to be asked."""
        _, terms, hits, lease = charge
        if share.terms is not terms or share.lease != lease:
            if share.terms != terms or share.lease != lease:
                self._drop(share, now)
                return None
            share.terms = terms
        taken = share.taken
        if hits > taken.left or now >= taken.until:
            self._end(share, now)
            if share.taken.left < hits:
                share.advance()
            taken = share.taken
        if not 0 <= hits <= taken.left or not taken.left:
            return None
        taken.left -= hits
        if taken.left <= taken.low or now >= taken.renew:
            self._refill(share, now)
        return share.tally(now)

    async def _ask(
        self,
        charges: Sequence[Charge],
        answers: list[Tally | None],
        asked: Sequence[int],
        met: Sequence[_Drawn],
        now: float,
        *,
        together: bool,
    ) -> Sequence[Tally | None]:
        """Has the shared store charge what was not met from here, less the hits that are left here."""
        wanted = [charges[position] for position in asked]
        parts = [self._draw_rest(position, charges[position], now) for position in asked]
        try:
            tallies = await self._shared.charge(
                [
                    charge if part is None else charge._replace(hits=charge.hits - part.hits)
                    for charge, part in zip(wanted, parts, strict=True)
                ],
                together=together,
            )
        except BaseException as error:
            self._put_back(part for part in parts if part is not None)
            if not isinstance(error, CounterStoreError) or together or not met:
                self._put_back(met)
                raise
            parts = [None] * len(asked)
            tallies = [None] * len(asked)
        charged = not together or all(tally is not None and tally.admitted for tally in tallies)
        for position, part, tally in zip(asked, parts, tallies, strict=True):
            answers[position] = tally
            if part is not None and charged and tally is not None and tally.admitted:
                self._metrics.used.add(part.hits)
            elif part is not None:
                self._put_back((part,))
            if tally is not None:
                self._learn(charges[position], tally, now)
        self._metrics.answered_by_store.add(len(asked))
        if charged:
            self._count_met(met)
        else:
            self._put_back(met)
            for position, _, _, hits in met:
                tally = answers[position]
                answers[position] = tally and tally._replace(remaining=tally.remaining + hits, retry=0)
        return answers

    def _draw_rest(self, position: int, charge: Charge, now: float) -> _Drawn | None:
        """The last hits that are held, of a charge that needs more; the shared store is asked for the others."""
        share = self._shares.get(charge.identity) if charge.lease > 0 else None
        if share is None or not 0 < share.taken.left < charge.hits or now >= share.taken.until:
            return None
        drawn = _Drawn(position, share, share.taken, share.taken.left)
        share.taken.left = 0
        return drawn

    def _put_back(self, drawn: Iterable[_Drawn]) -> None:
        """Holds hits again that came to nothing; those whose place was taken meanwhile are let go of."""
        now = self._clock.monotonic()
        for _, share, taken, hits in drawn:
            kept = 0 if taken.retired or share.gone else max(min(hits, share.room(now)), 0)
            taken.left += kept
            if kept < hits:
                self._let_go(share, taken, hits - kept, now)

    def _count_met(self, met: Sequence[_Drawn]) -> None:
        self._metrics.answered_here.add(len(met))
        self._metrics.used.add(sum(hits for *_, hits in met))

    def _learn(self, charge: Charge, tally: Tally, sent: float) -> None:
        """Keeps what the shared store has answered, and takes hits ahead for the charges to come."""
        if charge.lease <= 0 or self._closed:
            return
        share = self._shares.get(charge.identity)
        if share is None:
            if charge.hits <= 0 or not tally.admitted or tally.remaining < LARGEST_PART:
                return
            if len(self._shares) >= self._most:
                self._metrics.no_room.add()
                return
            share = self._shares[charge.identity] = Share(charge, tally, sent)
            self._metrics.counters.set(len(self._shares))
            self._watch(share, sent)
        elif share.terms == charge.terms:
            share.learn(tally, sent)
        if share.is_low(sent):
            self._refill(share, sent)

    def _refill(self, share: Share, now: float) -> None:
        """Begins to take more, if there is enough to take and nobody does so already."""
        if share.coming or share.following is not None or now < share.patience or self._closed:
            return
        share.coming = max(share.wanted(now), 0)
        if share.coming:
            task = asyncio.create_task(self._take(share))
            self._takes.add(task)
            task.add_done_callback(self._takes.discard)
        else:
            share.taken.take_no_more()

    async def _take(self, share: Share) -> None:
        """Charges hits ahead: all of them or, while that fails, fewer, as others leave less than was thought."""
        taken = None
        try:
            for _ in range(_TRIES):
                taken = await self._take_ahead(share)
                if taken is not None:
                    break
                self._metrics.refused.add()
                share.coming = min(share.coming // 2, share.elsewhere // LARGEST_PART)
                if share.coming < 1:
                    break
        except CounterStoreError:
            self._metrics.failed.add()
            share.patience = self._clock.monotonic() + _PAUSE
        else:
            if taken is None:
                share.taken.take_no_more()
        finally:
            share.coming = 0
        if taken is not None:
            self._hold(share, taken)

    async def _take_ahead(self, share: Share) -> Taken | None:
        """The hits that were to come, or None when fewer than those are left.

        Raises:
            CounterStoreError: they could not be charged.
        """
        sent = self._clock.monotonic()
        terms, hits = share.terms, share.coming
        (tally,) = await self._shared.charge((Charge(share.identity, terms, hits),), together=True)
        if tally is None:
            raise CounterStoreError("there is no room for a counter of which hits were to be taken ahead")
        share.learn(tally, sent)
        return Taken(hits, terms, tally, sent) if tally.admitted else None

    def _hold(self, share: Share, taken: Taken) -> None:
        self._metrics.granted.add()
        self._metrics.taken.add(taken.left)
        now = self._clock.monotonic()
        if share.gone or self._closed:
            self._retire(share, taken, now)
            return
        self._end(share, now)
        if share.taken.left:
            share.following = taken
        else:
            share.taken = taken

    def _end(self, share: Share, now: float) -> None:
        """Lets go of the hits that are over, and goes over to those that follow if none are left."""
        following = share.following
        if following is not None and now >= following.until:
            share.following = None
            self._retire(share, following, now)
        if now >= share.taken.until and not share.taken.retired:
            self._retire(share, share.taken, now)
        if share.taken.retired or not share.taken.left:
            share.advance()

    def _retire(self, share: Share, taken: Taken, now: float) -> None:
        left, taken.left, taken.retired = taken.left, 0, True
        if left:
            self._let_go(share, taken, left, now)

    def _let_go(self, share: Share, taken: Taken, hits: int, now: float) -> None:
        """Gives back as many of the hits as may go back."""
        back = taken.returnable(hits, now)
        if back < hits:
            self._metrics.expired.add(hits - back)
        if back:
            self._returns.add(Charge(share.identity, share.terms, -back))

    def _drop(self, share: Share, now: float) -> None:
        """Forgets a counter, and lets go of all that is held of it."""
        share.gone = True
        if self._shares.get(share.identity) is share:
            del self._shares[share.identity]
        for taken in (share.taken, share.following):
            if taken is not None and not taken.retired:
                self._retire(share, taken, now)
        self._metrics.counters.set(len(self._shares))

    def _watch(self, share: Share, now: float) -> None:
        """Has a share looked at again when the first of its hits are over."""
        until = max(share.taken.until, now + _TICK)
        heappush(self._ends, (until, next(self._numbers), share))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            self.sweep()

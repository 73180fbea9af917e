"""However workers ask, die, hang and lose the store: no limit lets in more than `lease_bounds` says."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.instruments import FakeClock
from mixer_py.ratelimit.algorithms import COUNT
from mixer_py.ratelimit.lease_bounds import most_held, over_admission, under_admission
from mixer_py.ratelimit.stores import Charge
from mixer_py.ratelimit.stores.shares import MARGIN
from tests.ratelimit.leasing import START, Message, Worker, leased, memory, turn

Step = tuple[str, int, Any]
"""What happens, to which worker, and how much of it."""
WORKERS = 3

STEPS = st.lists(
    st.tuples(st.just("ask"), st.integers(0, 9), st.sampled_from([1, 1, 1, 1, 2, 5, 0, -1]))
    | st.tuples(st.just("ask"), st.integers(0, 2), st.just(1))
    | st.tuples(st.just("carry"), st.integers(0, 9), st.integers(0, 5))
    | st.tuples(st.just("carry all"), st.integers(0, 9), st.none())
    | st.tuples(st.just("carry all"), st.integers(0, 9), st.none())
    | st.tuples(st.just("serve"), st.integers(0, 9), st.integers(0, 5))
    | st.tuples(st.just("lose"), st.integers(0, 9), st.integers(0, 5))
    | st.tuples(st.just("wait"), st.just(0), st.sampled_from([0.01, 0.3, 0.7, 3.0, 11.0, 61.0]))
    | st.tuples(st.sampled_from(["kill", "drain", "hand over", "sweep"]), st.integers(0, 9), st.none()),
    max_size=120,
)


class Schedule:
    """A run of workers over one store, by steps."""

    def __init__(self, charge: Charge, *, late_returns: bool = False) -> None:
        self.charge = charge
        self.clock = FakeClock(START + 1)
        self.store = memory(self.clock)
        self.alive = [self.worker() for _ in range(WORKERS)]
        self.dead: list[Worker] = []
        self.late_returns = late_returns

    def worker(self) -> Worker:
        worker = Worker(self.store, self.clock)
        worker.wire.held = True
        return worker

    async def run(self, steps: list[Step]) -> None:
        for step, whose, argument in steps:
            worker = self.alive[whose % WORKERS]
            if step == "ask":
                await worker.ask(self.charge._replace(hits=argument))
            elif step == "wait":
                await self.wait(argument)
            elif step in {"kill", "drain"}:
                self.alive[whose % WORKERS] = self.worker()
                self.dead.append(worker)
                await self.end(worker, drained=step == "drain")
            elif step == "hand over":
                await self.carry_until_done(worker, asyncio.create_task(worker.store.give_back()))
            elif step == "sweep":
                worker.store.sweep()
            elif step == "carry all":
                await self.carry_all(worker)
            elif worker.wire.messages:
                await self.carry(worker, worker.wire.messages[argument % len(worker.wire.messages)], step)
            await turn()
            worker.collect()
            for one in self.alive:
                assert one.usable <= self.charge.lease
        for worker in self.alive:
            self.dead.append(worker)
            await self.end(worker, drained=True)

    async def wait(self, seconds: float) -> None:
        """Lets time pass; a return that is under way arrives or is lost within the margin, unless they may be late."""
        if seconds >= MARGIN and not self.late_returns:
            for worker in self.alive:
                for message in [one for one in worker.wire.messages if one.gives_back]:
                    await self.carry(worker, message, "carry")
        self.clock.advance(seconds)

    async def carry(self, worker: Worker, message: Message, how: str) -> None:
        if how in {"carry", "serve"}:
            await worker.wire.serve(message)
        if how == "carry":
            worker.wire.answer(message)
        elif how == "lose":
            worker.wire.lose(message)
        await turn()

    async def carry_all(self, worker: Worker) -> None:
        while worker.wire.messages:
            await self.carry(worker, worker.wire.messages[0], "carry")

    async def carry_until_done(self, worker: Worker, work: asyncio.Task[None]) -> None:
        for _ in range(1000):
            await turn()
            if work.done():
                break
            await self.carry_all(worker)
        assert work.done()
        await work

    async def end(self, worker: Worker, *, drained: bool) -> None:
        if drained:
            await self.carry_all(worker)  # calls that wait are answered before a worker lets go
            await self.carry_until_done(worker, asyncio.create_task(worker.store.close()))
            assert worker.store.held == 0
            fates = sum(worker.hits(fate) for fate in ("used", "given_back", "expired", "lost"))
            assert worker.hits("taken") == fates
        worker.collect()
        for task, _, _ in worker.asking:
            task.cancel()
        for task in (*worker.store._takes, *worker.store._returns._tasks):
            task.cancel()
        await asyncio.gather(*(task for task, _, _ in worker.asking), return_exceptions=True)
        worker.asking.clear()

    @property
    def admitted(self) -> list[tuple[float, int]]:
        """When hits were let in, in order: those of the store when it charged them, those held when they were used."""
        return sorted(hit for worker in self.dead for hit in (*worker.answered, *worker.wire.charged))

    @property
    def bound(self) -> int:
        return over_admission(self.charge.terms, self.charge.lease, WORKERS)


def run(charge: Charge, steps: list[Step], **options: bool) -> Schedule:
    async def go() -> Schedule:
        schedule = Schedule(charge, **options)
        await schedule.run(steps)
        return schedule

    return asyncio.run(go())


def by_window(admitted: list[tuple[float, int]], seconds: int) -> Counter[int]:
    windows: Counter[int] = Counter()
    for moment, hits in admitted:
        windows[int(moment // seconds)] += hits
    return windows


def without_returned(steps: list[Step]) -> list[Step]:
    """Hits that a caller gives back may be used again, so they are left out where what was admitted is summed up."""
    return [step for step in steps if not (step[0] == "ask" and step[2] < 0)]


LIMITS = st.integers(0, 60)
LEASES = st.integers(1, 40)
SECONDS = st.sampled_from([1, 10, 60])


@settings(max_examples=250, deadline=None)
@given(LIMITS, LEASES, SECONDS, STEPS)
def test_no_fixed_window_lets_in_more_than_its_limit(limit: int, lease: int, seconds: int, steps: list[Step]) -> None:
    schedule = run(leased(limit=limit, lease=lease, seconds=seconds), without_returned(steps))
    assert schedule.bound == 0
    assert all(hits <= limit for hits in by_window(schedule.admitted, seconds).values())


@settings(max_examples=150, deadline=None)
@given(LIMITS, LEASES, SECONDS, STEPS)
def test_a_store_that_counts_what_is_given_back_in_the_next_window_lets_in_no_more_than_that(
    limit: int, lease: int, seconds: int, steps: list[Step]
) -> None:
    schedule = run(leased(limit=limit, lease=lease, seconds=seconds), without_returned(steps), late_returns=True)
    returned = sum(worker.hits("given_back") + worker.hits("lost") for worker in schedule.dead)
    assert all(hits <= limit + returned for hits in by_window(schedule.admitted, seconds).values())


@settings(max_examples=250, deadline=None)
@given(LIMITS, LEASES, SECONDS, STEPS)
def test_a_sliding_window_keeps_its_own_bounds(limit: int, lease: int, seconds: int, steps: list[Step]) -> None:
    """The limit in each aligned window, twice the limit in any stretch as long."""
    charge = leased(limit=limit, lease=lease, seconds=seconds, algorithm="sliding_window")
    admitted = run(charge, without_returned(steps)).admitted
    assert all(hits <= limit for hits in by_window(admitted, seconds).values())
    for end, _ in admitted:
        assert sum(hits for moment, hits in admitted if end - seconds < moment <= end) <= 2 * limit


@settings(max_examples=250, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), LEASES, SECONDS, STEPS)
def test_a_token_bucket_lets_in_at_most_the_bound_more_in_any_stretch(
    limit: int, burst: int, lease: int, seconds: int, steps: list[Step]
) -> None:
    charge = leased(limit=limit, burst=burst, lease=lease, seconds=seconds, algorithm="token_bucket")
    schedule = run(charge, without_returned(steps))
    admitted = schedule.admitted
    for first, (start, _) in enumerate(admitted):
        total = 0
        for moment, hits in admitted[first:]:
            total += hits
            assert total <= burst + limit * (moment - start) / seconds + schedule.bound + 1e-3


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(COUNT)), LIMITS, LEASES, SECONDS, STEPS)
def test_no_worker_holds_more_than_its_lease_and_no_hit_is_forgotten(
    algorithm: str, limit: int, lease: int, seconds: int, steps: list[Step]
) -> None:
    """`Schedule` looks at both; hits that callers give back are among these."""
    run(leased(limit=limit, lease=lease, seconds=seconds, algorithm=algorithm), steps)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["fixed_window", "sliding_window"]),
    st.integers(0, 200),
    LEASES,
    st.lists(st.tuples(st.integers(0, WORKERS - 1), st.sampled_from([1, 1, 1, 2, 7])), max_size=80),
)
def test_with_demand_at_every_worker_the_limit_is_used_to_its_last_hit(
    algorithm: str, limit: int, lease: int, asks: list[tuple[int, int]]
) -> None:
    async def go() -> None:
        clock = FakeClock(START)
        store = memory(clock)
        workers = [Worker(store, clock) for _ in range(WORKERS)]
        admitted = 0
        for whose, hits in asks:
            (tally,) = await workers[whose].store.charge([leased(hits=hits, limit=limit, lease=lease)])
            admitted += hits if tally is not None and tally.admitted else 0
            await turn()
        open_ = list(workers)
        while open_:
            for worker in list(open_):
                (tally,) = await worker.store.charge([leased(limit=limit, lease=lease)])
                assert tally is not None
                admitted += tally.admitted
                if not tally.admitted:
                    open_.remove(worker)
                await turn()
        over_counted = any(hits > 1 for _, hits in asks)  # a fixed window counts hits that do not fit
        assert admitted <= limit if over_counted else admitted == limit

    asyncio.run(go())


@pytest.mark.parametrize("algorithm", sorted(COUNT))
def test_a_killed_worker_takes_no_more_than_its_lease_with_it(algorithm: str) -> None:
    async def go() -> None:
        clock = FakeClock(START)
        store = memory(clock)
        killed, other = Worker(store, clock), Worker(store, clock)
        charge = leased(algorithm=algorithm, lease=20)
        await killed.store.charge([charge])
        await turn()
        admitted = 1
        while True:
            (tally,) = await other.store.charge([charge])
            if tally is None or not tally.admitted:
                break
            admitted += 1
            await turn()
        assert 0 < charge.terms.limit - admitted <= under_admission(charge.terms, charge.lease, 1)

    asyncio.run(go())


def test_bounds_are_whole_numbers_that_a_page_can_show() -> None:
    fixed, sliding, bucket = (
        leased(limit=100, lease=20, algorithm=algorithm, burst=50 if algorithm == "token_bucket" else None).terms
        for algorithm in ("fixed_window", "sliding_window", "token_bucket")
    )
    assert [over_admission(terms, 20, 4) for terms in (fixed, sliding, bucket)] == [0, 80, 80]
    assert [over_admission(terms, 20, 40) for terms in (fixed, sliding, bucket)] == [0, 100, 150]
    assert [under_admission(terms, 20, 2) for terms in (fixed, sliding, bucket)] == [40, 40, 150]
    assert [over_admission(terms, 0, 4) for terms in (fixed, sliding, bucket)] == [0, 0, 0]
    assert most_held(bucket, 80) == 50

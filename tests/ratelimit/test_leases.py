"""What a leased counter answers, what it asks the shared store for, and what it gives back."""

from __future__ import annotations

import asyncio

import pytest

from mixer_py.errors import CounterStoreError
from mixer_py.instruments import FakeClock
from mixer_py.ratelimit.algorithms import SECOND, Terms
from mixer_py.ratelimit.stores import Charge
from mixer_py.ratelimit.stores.memory import MemoryStore
from tests.ratelimit.leasing import START, Worker, leased, memory, turn

Ask = tuple[bool, int]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


@pytest.fixture
def store(clock: FakeClock) -> MemoryStore:
    return memory(clock)


@pytest.fixture
def worker(store: MemoryStore, clock: FakeClock) -> Worker:
    return Worker(store, clock)


async def ask(worker: Worker, *charges: Charge, together: bool = False) -> list[Ask | None]:
    """Whether each was admitted and what remains, once the loop has come to rest."""
    tallies = await worker.store.charge(charges, together=together)
    await turn()
    return [None if tally is None else (tally.admitted, tally.remaining) for tally in tallies]


async def used(store: MemoryStore, charge: Charge) -> int:
    """What is charged in the shared store."""
    (tally,) = await store.charge([charge._replace(hits=0)])
    assert tally is not None
    return charge.terms.limit - tally.remaining


async def test_the_first_hit_is_asked_for_and_the_next_are_met_from_what_was_taken_behind_it(worker, store) -> None:
    assert await ask(worker, leased()) == [(True, 99)]
    assert worker.wire.calls == [(1,), (20,)]
    assert await used(store, leased()) == 21
    for hit in range(2, 11):
        assert await ask(worker, leased()) == [(True, 100 - hit)]
    assert worker.wire.calls == [(1,), (20,)]
    assert (worker.hits("taken"), worker.hits("used"), worker.store.held) == (20, 9, 11)


async def test_more_is_taken_at_half_before_any_call_has_to_wait(worker) -> None:
    for _ in range(60):
        await ask(worker, leased(limit=10_000))
    assert [hits for call in worker.wire.calls for hits in call if hits == 1] == [1]
    assert len(worker.wire.calls) == 6
    assert worker.registry.counter("mixer_lease_answers_total", "", ("source",)).labels("store").value == 1


async def test_while_more_is_on_its_way_the_store_is_asked_for_nothing_else(worker) -> None:
    """Calls of one turn, or of several, that find the same counter low."""
    await ask(worker, leased(limit=10_000))
    worker.wire.held = True
    await asyncio.gather(*(worker.store.charge([leased(limit=10_000)]) for _ in range(10)))
    await turn()
    await asyncio.gather(*(worker.store.charge([leased(limit=10_000)]) for _ in range(5)))
    await turn()
    assert worker.wire.calls[2:] == [(10,)]


async def test_dry_calls_are_asked_for_one_by_one(worker) -> None:
    await ask(worker, leased(limit=10_000))
    worker.wire.held = True
    calls = [asyncio.create_task(worker.store.charge([leased(limit=10_000)])) for _ in range(25)]
    await turn()
    assert worker.wire.calls[2:] == [(1,)] * 5 + [(10,)]
    for message in list(worker.wire.messages):
        await worker.wire.serve(message)
        worker.wire.answer(message)
    assert all(tally.admitted for (tally,) in await asyncio.gather(*calls))


async def test_what_is_taken_shrinks_with_what_is_left(worker, store, clock) -> None:
    await store.charge([leased(hits=60)])
    await ask(worker, leased())  # leaves 39, of which a quarter is taken
    assert worker.wire.calls == [(1,), (9,)]
    others = Worker(store, clock)
    await ask(others, leased())
    assert others.wire.calls == [(1,), (7,)]


async def test_when_others_were_faster_a_smaller_part_is_tried(worker, store) -> None:
    await ask(worker, leased())
    await store.charge([leased(hits=70)])  # 79 were left
    for _ in range(10):
        await ask(worker, leased())
    assert worker.wire.calls[2:] == [(10,), (2,)]
    assert (worker.leases("refused"), worker.leases("granted")) == (1, 2)


async def test_when_too_little_is_left_every_hit_is_asked_for_once(worker, store) -> None:
    await store.charge([leased(hits=97)])
    for left in (2, 1, 0):
        assert await ask(worker, leased()) == [(True, left)]
    assert await ask(worker, leased()) == [(False, 0)]
    assert worker.wire.calls == [(1,)] * 4


async def test_a_charge_larger_than_what_is_held_takes_that_and_asks_for_the_rest(worker, store) -> None:
    await ask(worker, leased())
    assert await ask(worker, leased(hits=90)) == [(True, 9)]
    assert worker.wire.calls[2] == (70,)
    assert worker.hits("used") == 20


async def test_a_charge_that_does_not_fit_leaves_what_is_held(worker) -> None:
    await ask(worker, leased())
    assert (await ask(worker, leased(hits=200)))[0] == (False, 0)
    assert worker.store.held == 20
    assert (await ask(worker, leased(hits=3)))[0] == (True, 17)


async def test_a_look_is_answered_from_here_while_hits_are_held(worker) -> None:
    assert await ask(worker, leased(hits=0)) == [(True, 100)]
    assert await ask(worker, leased(hits=0)) == [(True, 100)]
    assert worker.wire.calls == [(0,), (0,)]  # a look takes nothing
    await ask(worker, leased())
    assert await ask(worker, leased(hits=0)) == [(True, 99)]
    assert worker.wire.calls[2:] == [(1,), (20,)]


async def test_hits_that_a_caller_gives_back_go_to_the_store(worker, store) -> None:
    await ask(worker, leased(hits=10))
    assert await used(store, leased()) == 30
    await ask(worker, leased(hits=-10))
    assert await used(store, leased()) == 20


async def test_a_charge_without_lease_is_held_against_the_counter_itself(worker, store) -> None:
    """An override with a small limit on the same counter must not be met from hits taken under a large one."""
    await ask(worker, leased())
    small = leased(limit=5, lease=0)
    assert await ask(worker, small) == [(False, 0)]
    assert worker.wire.calls[2] == (1,)
    assert worker.store.held == 20


@pytest.mark.parametrize("change", [{"limit": 50}, {"lease": 10}])
async def test_a_reload_that_changes_limit_or_lease_gives_back_and_begins_anew(worker, store, change) -> None:
    await ask(worker, leased())
    await ask(worker, leased())
    assert await used(store, leased()) == 21
    changed = leased(**change)
    await ask(worker, changed)
    assert worker.hits("given_back") == 19
    assert await used(store, leased()) == 3 + worker.store.held
    assert worker.store.held == min(changed.lease, (changed.terms.limit - 22) // 4)


async def test_a_reload_that_changes_neither_goes_on(worker) -> None:
    await ask(worker, leased())
    await ask(worker, leased()._replace(terms=Terms(*leased().terms)))
    assert worker.wire.calls == [(1,), (20,)]


async def test_hits_end_with_their_window(worker, store, clock) -> None:
    clock.advance(55)
    await ask(worker, leased())
    clock.advance(4.9)
    await ask(worker, leased())
    assert worker.wire.calls == [(1,), (20,)]
    clock.advance(0.2)
    assert await ask(worker, leased()) == [(True, 99)]
    assert (worker.hits("expired"), worker.hits("given_back")) == (19, 0)
    assert await used(store, leased()) == 21


async def test_hits_of_a_sliding_window_end_with_the_aligned_window_that_they_were_charged_in(worker, clock) -> None:
    """Used later they would pass the limit of the next one, which knows them only as a part of the window before."""
    charge = leased(algorithm="sliding_window")
    clock.advance(55)
    await ask(worker, charge)
    clock.advance(4.9)
    await ask(worker, charge)
    assert worker.wire.calls == [(1,), (20,)]
    clock.advance(0.2)
    await ask(worker, charge)
    assert worker.wire.calls[2] == (1,)
    assert worker.hits("expired") == 19


async def test_hits_that_nobody_asks_for_go_back(worker, store, clock) -> None:
    await ask(worker, leased())
    clock.advance(10)
    worker.store.sweep()
    await turn()
    assert await used(store, leased()) == 1
    assert (worker.hits("given_back"), worker.store.held) == (20, 0)
    assert worker.store._shares == {}


async def test_a_counter_that_is_seldom_asked_for_is_renewed_behind_an_answer(worker, clock) -> None:
    """One hit a second: the store is asked for ten of them at a time, and no call waits."""
    for _ in range(60):
        await ask(worker, leased(seconds=3600, limit=10_000))
        clock.advance(0.9)
        worker.store.sweep()
        await turn()
    assert worker.registry.counter("mixer_lease_answers_total", "", ("source",)).labels("store").value == 1


async def test_tokens_that_came_back_by_themselves_are_not_given_back(worker, store, clock) -> None:
    """A full bucket loses what comes back, so what is given back on top would be tokens that never were."""
    charge = leased(limit=60, burst=60, lease=12, algorithm="token_bucket")  # a token a second
    await ask(worker, charge)
    clock.advance(10)
    worker.store.sweep()
    await turn()
    assert (worker.hits("given_back"), worker.hits("expired")) == (1, 11)  # ten seconds, and a margin of one


async def test_all_is_given_back_when_the_worker_is_drained(worker, store) -> None:
    for who in "abc":
        await ask(worker, leased(who))
    await worker.store.close()
    for who in "abc":
        assert await used(store, leased(who)) == 1
    assert worker.wire.closed
    assert await ask(worker, leased()) == [(True, 98)]  # a call of the last moment still has its answer
    assert worker.store.held == 0


async def test_what_arrives_while_the_worker_is_drained_goes_back_too(worker, store) -> None:
    worker.wire.held = True
    asking = asyncio.create_task(worker.store.charge([leased()]))
    await turn()
    await worker.wire.serve(worker.wire.messages[0])
    worker.wire.answer(worker.wire.messages[0])
    await turn()
    closing = asyncio.create_task(worker.store.close())
    await turn()
    worker.wire.held = False
    await worker.wire.serve(worker.wire.messages[0])
    worker.wire.answer(worker.wire.messages[0])
    await closing
    assert await used(store, leased()) == 1
    await asking


async def test_a_worker_that_hands_over_gives_back_and_goes_on(worker, store) -> None:
    await ask(worker, leased())
    await worker.store.give_back()
    assert await used(store, leased()) == 1
    await ask(worker, leased())
    assert worker.store.held == 20


async def test_with_the_store_away_what_is_held_is_used_up_before_any_call_fails(worker, clock) -> None:
    await ask(worker, leased())
    worker.wire.away = True
    for _ in range(20):
        assert (await ask(worker, leased()))[0][0]
    with pytest.raises(CounterStoreError):
        await ask(worker, leased())
    assert worker.leases("failed") == 1  # the store is not asked for more again at once
    worker.wire.away = False
    clock.advance(0.3)
    assert await ask(worker, leased()) == [(True, 78)]
    assert worker.store.held == 19


async def test_with_the_store_away_the_charges_that_were_met_are_answered(worker) -> None:
    await ask(worker, leased())
    worker.wire.away = True
    assert await ask(worker, leased(), leased("b")) == [(True, 98), None]
    with pytest.raises(CounterStoreError):
        await ask(worker, leased(), leased("b"), together=True)
    assert worker.store.held == 19


async def test_hits_whose_return_fails_are_lost_until_they_are_over(worker, store, clock) -> None:
    await ask(worker, leased())
    worker.wire.away = True
    await worker.store.give_back()
    assert (worker.hits("lost"), worker.hits("given_back")) == (20, 0)
    assert await used(store, leased()) == 21


async def test_together_all_or_none_with_some_met_from_here(worker, store) -> None:
    plain = leased("plain", lease=0, limit=2)
    await ask(worker, leased())
    assert await ask(worker, leased(), plain, together=True) == [(True, 98), (True, 1)]
    assert await ask(worker, leased(hits=5), plain._replace(hits=2), together=True) == [(True, 98), (False, 1)]
    assert worker.store.held == 19
    assert await used(store, plain) == 1
    assert worker.wire.calls[2:] == [(1,), (2,)]


async def test_together_met_from_here_altogether_asks_nobody(worker) -> None:
    await ask(worker, leased("a"), leased("b"), together=True)
    assert await ask(worker, leased("a"), leased("b", 2), together=True) == [(True, 98), (True, 97)]
    assert worker.wire.calls == [(1, 1), (20,), (20,)]


async def test_a_charge_that_is_given_up_leaves_what_was_held(worker) -> None:
    await ask(worker, leased())
    worker.wire.held = True
    call = asyncio.create_task(worker.store.charge([leased(hits=25)]))
    await turn()
    assert worker.store.held == 0
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert worker.store.held == 20


async def test_no_more_counters_are_leased_than_there_is_room_for(store, clock) -> None:
    worker = Worker(store, clock, most=2)
    for who in "abcd":
        await ask(worker, leased(who))
    assert (worker.leases("granted"), worker.leases("no_room")) == (2, 2)
    clock.advance(61)
    worker.store.sweep()
    await ask(worker, leased("c"))
    assert worker.leases("granted") == 3


async def test_no_lease_is_taken_of_a_counter_that_is_over(worker, store) -> None:
    await store.charge([leased(hits=100)])
    await ask(worker, leased())
    assert worker.store._shares == {}


async def test_reset_and_retry_are_the_stores_less_the_time_since(worker, clock) -> None:
    await ask(worker, leased())
    clock.advance(7)
    (tally,) = await worker.store.charge([leased()])
    assert tally is not None
    assert (tally.reset, tally.retry) == (53 * SECOND, 0)
    await ask(worker, leased(hits=98))
    (tally,) = await worker.store.charge([leased()])
    assert tally is not None
    assert (tally.admitted, tally.remaining, tally.retry) == (False, 0, 53 * SECOND)


async def test_open_it_ends_what_nobody_asks_for_by_itself(worker, store, clock) -> None:
    worker.store.open()
    assert worker.wire.opened
    await ask(worker, leased())
    clock.advance(11)
    async with asyncio.timeout(30):
        while worker.store.held:
            await asyncio.sleep(0.05)
    await worker.store.close()
    assert await used(store, leased()) == 1

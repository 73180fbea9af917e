"""What only the memory store has: bounds on room and work, and counters that are handed on. The rest: test_stores."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.instruments import FakeClock, Registry
from mixer_py.ratelimit.algorithms import COUNT, SECOND, State, Tally, Terms
from mixer_py.ratelimit.identity import counter_identity, window_name
from mixer_py.ratelimit.stores import Charge, Identity
from mixer_py.ratelimit.stores.memory import MemoryStore

ALGORITHMS = sorted(COUNT)


def charge(
    who: str,
    hits: int = 1,
    limit: int = 5,
    seconds: int = 60,
    algorithm: str = "fixed_window",
    overdraw: bool = False,
) -> Charge:
    terms = Terms(algorithm, seconds * SECOND, limit, limit, overdraw)  # type: ignore[arg-type]
    return Charge(("d", window_name(terms), who), terms, hits)


def left(tallies: object) -> list[int | None]:
    return [tally.remaining if tally is not None else None for tally in tallies]  # type: ignore[attr-defined]


class Model:
    """Every counter with the moment of the monotonic clock at which it is over; no bound on work or room."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.held: dict[Identity, tuple[State, float]] = {}

    def charge(self, one: Charge, *, always: bool) -> Tally:
        now = self.clock.monotonic()
        self.held = {name: held for name, held in self.held.items() if held[1] > now}
        held = self.held.get(one.identity)
        state, tally = COUNT[one.terms.algorithm](
            held[0] if held else None, self.clock.wall_ns() // 1000, one.terms, one.hits, always=always
        )
        if held is not None or state.used:
            self.held[one.identity] = (state, now + tally.reset / SECOND)
        return tally


CHARGES = st.lists(
    st.builds(
        charge,
        st.sampled_from("abcdefgh"),
        st.sampled_from([0, 1, 1, 1, 7, 2**64 - 1, -2]),
        st.sampled_from([0, 3, 10]),
        st.sampled_from([1, 60, 3600]),
        st.sampled_from(ALGORITHMS),
        st.booleans(),
    ),
    max_size=6,
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.sampled_from([0.25, 1.0, 59.0, 60.0, 3600.0])),
        st.tuples(st.just("jump"), st.sampled_from([-86_400.0, -60.0, -1.5, 0.5, 61.0, 7200.0])),
        st.tuples(st.just("charge"), CHARGES),
        st.tuples(st.just("charge"), CHARGES),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.integers(1, 100))
def test_counts_as_the_model_does_whatever_the_clock_does(steps: list[tuple[str, object]], capacity: int) -> None:
    clock = FakeClock()
    store, model = MemoryStore(clock, Registry(), capacity), Model(clock)

    async def run() -> None:
        for step, argument in steps:
            if step == "charge":
                charges: list[Charge] = argument  # type: ignore[assignment]
                for one, tally in zip(charges, await store.charge(charges), strict=True):
                    if tally is None:  # and then it was not counted
                        assert store.held == capacity
                    else:
                        assert tally == model.charge(one, always=one.terms.always)
            else:
                getattr(clock, step)(argument)
            assert store.live <= store.held <= capacity

    asyncio.run(run())


async def test_full_refuses_new_counters_and_keeps_the_live(clock: FakeClock, registry: Registry) -> None:
    store = MemoryStore(clock, registry, 2)
    full = registry.counter("mixer_store_errors_total", "", ("reason",)).labels("memory_full")
    assert left(await store.charge([charge(who) for who in "abc"])) == [4, 4, None]
    assert left(await store.charge([charge(who) for who in "abcd"])) == [3, 3, None, None]
    assert full.value == 3
    assert left(await store.charge([charge("c", hits=0)])) == [5]
    assert full.value == 3
    clock.advance(60)
    assert left(await store.charge([charge(who) for who in "cd"])) == [4, 4]
    assert full.value == 3


async def test_full_keeps_none_of_those_charged_together(clock: FakeClock, registry: Registry) -> None:
    store = MemoryStore(clock, registry, 2)
    await store.charge([charge("a")])
    assert left(await store.charge([charge(who) for who in "abc"], together=True)) == [3, None, None]
    assert left(await store.charge([charge(who) for who in "ab"], together=True)) == [3, 4]


async def test_capacity_may_change(clock: FakeClock, registry: Registry) -> None:
    store = MemoryStore(clock, registry, 1)
    assert left(await store.charge([charge(who) for who in "ab"])) == [4, None]
    store.capacity = 2
    assert left(await store.charge([charge(who) for who in "ab"])) == [3, 4]
    store.capacity = 1
    assert left(await store.charge([charge(who) for who in "abc"])) == [2, 3, None]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_the_dead_are_freed_a_few_at_a_time(clock: FakeClock, registry: Registry, algorithm: str) -> None:
    store = MemoryStore(clock, registry, 10_000)
    await store.charge([charge(str(number), algorithm=algorithm) for number in range(1000)])
    clock.advance(121)
    before = store.held
    await store.charge([charge("x")])
    freed = before + 1 - store.held
    assert 1 < freed < 100
    for _ in range(1000):
        await store.charge([charge("x")])
    assert store.held == store.live == 1


async def test_a_counter_that_is_used_again_and_again_takes_one_place(clock: FakeClock, registry: Registry) -> None:
    store = MemoryStore(clock, registry, 10)
    for _ in range(500):
        await store.charge([charge("a", limit=100, algorithm="token_bucket")])
        await store.charge([charge("a", limit=0), charge("b")], together=True)
        clock.advance(0.7)
    assert store.held == 1
    assert sum(map(len, store._ending.values())) + sum(map(len, store._over)) <= 2


async def test_the_dead_make_room_for_as_many_new(clock: FakeClock, registry: Registry) -> None:
    store = MemoryStore(clock, registry, 100)
    for _ in range(3):
        assert left(await store.charge([charge(str(number)) for number in range(101)])) == [4] * 100 + [None]
        clock.advance(60)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_what_is_handed_on_and_charged_since_is_counted_once(clock, registry, algorithm: str) -> None:
    old, new, alone = (MemoryStore(clock, registry, 1000) for _ in range(3))
    numbers = count()

    async def charged(*stores: MemoryStore) -> list[int | None]:
        one = charge(f"c{next(numbers) % 7}", limit=100, algorithm=algorithm)
        return [left(await store.charge([one]))[0] for store in stores]

    for _ in range(50):
        clock.advance(0.01)
        await charged(old, alone)
    handed_on = old.hand_on()
    slices = [next(handed_on) for _ in range(3)]
    for _ in range(20):
        await charged(old, alone)
    assert new.take_on([*slices, *handed_on]) == 0
    for _ in range(20):
        await charged(old, alone)
    assert new.take_on_charges(old.charged_since()) == 0
    for _ in range(7):
        one, other = await charged(new, alone)
        assert one == other


async def test_counters_that_find_no_place_are_told(clock: FakeClock, registry: Registry) -> None:
    old, new = MemoryStore(clock, registry, 10), MemoryStore(clock, registry, 2)
    await old.charge([charge(who) for who in "abc"])
    assert new.take_on(old.hand_on()) == 1
    await old.charge([charge(who) for who in "de"])
    assert new.take_on_charges(old.charged_since()) == 2


async def test_what_is_kept_for_a_successor_that_never_comes_takes_no_more_room(clock, registry) -> None:
    store = MemoryStore(clock, registry, 100)
    assert list(store.hand_on()) == []
    for number in range(2000):
        await store.charge([charge(str(number), seconds=1)])
        clock.advance(0.5)
    assert store._journal is not None
    assert len(store._journal) <= 100


PARTS = st.lists(st.text(max_size=4) | st.text(min_size=300, max_size=310), max_size=6).map(tuple)


@given(st.tuples(st.text(max_size=2), PARTS), st.tuples(st.text(max_size=2), PARTS))
def test_identities_are_equal_only_for_equal_entries(one: tuple, other: tuple) -> None:
    identities = [counter_identity(domain, "fixed_window/60", entries) for domain, entries in (one, other)]
    assert (identities[0] == identities[1]) == (one == other)


@pytest.mark.parametrize("entries", [("k", "v" * 100_000), ("k",) * 100_000])
def test_an_identity_is_small_whatever_the_caller_sends(entries: tuple[str, ...]) -> None:
    assert len(repr(counter_identity("d", "fixed_window/60", entries))) < 300
    assert counter_identity("d", "w", ("ab", "c" * 600)) != counter_identity("d", "w", ("a", "b" + "c" * 600))

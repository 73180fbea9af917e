"""The memory store against a model that knows no bound on time or work."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.instruments import FakeClock, Registry
from mixer_py.ratelimit.algorithms import seconds_until_reset, window_start
from mixer_py.ratelimit.identity import counter_identity
from mixer_py.ratelimit.stores import Charge
from mixer_py.ratelimit.stores.memory import MemoryStore

NS = 1_000_000_000


def charge(clock: FakeClock, who: str, seconds: int = 60, hits: int = 1) -> Charge:
    now = clock.wall_ns() // NS
    window = (seconds, window_start(now, seconds))
    return Charge(("d", f"fixed_window/{seconds}", who), window, seconds_until_reset(now, seconds), hits)


class Model:
    """Every counter with the moment of the monotonic clock at which its window ends."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.counts: dict[tuple[object, ...], int] = {}
        self.ends: dict[tuple[int, int], float] = {}

    def add(self, charge: Charge, monotonic: float) -> int | None:
        self.forget(monotonic)
        key = (charge.window, charge.identity)
        if charge.hits:
            self.ends[charge.window] = max(self.ends.get(charge.window, 0.0), monotonic + charge.reset)
        elif charge.window in self.ends:  # a look at a window that is there keeps it as long as the wall clock does
            self.ends[charge.window] = max(self.ends[charge.window], monotonic + charge.reset)
        if key not in self.counts:
            if not charge.hits:
                return 0
            if len(self.counts) >= self.capacity:
                return None
        self.counts[key] = self.counts.get(key, 0) + charge.hits
        return self.counts[key]

    def forget(self, monotonic: float) -> None:
        over = {window for window, end in self.ends.items() if end <= monotonic}
        self.ends = {window: end for window, end in self.ends.items() if window not in over}
        self.counts = {key: count for key, count in self.counts.items() if key[0] not in over}


CHARGES = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([1, 60, 3600]), st.sampled_from([0, 1, 1, 1, 7, 2**64 - 1])),
    max_size=6,
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.sampled_from([0.25, 1.0, 59.0, 60.0, 3600.0])),
        st.tuples(st.just("jump"), st.sampled_from([-86_400.0, -60.0, -1.5, 0.5, 61.0, 7200.0])),
        st.tuples(st.just("add"), CHARGES),
        st.tuples(st.just("add"), CHARGES),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.integers(1, 12))
def test_counts_as_the_model_does_whatever_the_clock_does(steps: list[tuple[str, object]], capacity: int) -> None:
    clock = FakeClock()
    store, model = MemoryStore(clock, Registry(), capacity), Model(capacity)

    async def run() -> None:
        for step, argument in steps:
            if step == "add":
                charges = [charge(clock, who, seconds, hits) for who, seconds, hits in argument]  # type: ignore[union-attr]
                wanted = [model.add(one, clock.monotonic()) for one in charges]
                assert list(await store.add(charges)) == wanted
            else:
                getattr(clock, step)(argument)
            model.forget(clock.monotonic())
            assert store.live == len(model.counts)
            assert store.live <= store.held <= capacity

    asyncio.run(run())


async def test_full_refuses_new_counters_and_keeps_the_live(clock: FakeClock, registry: Registry) -> None:
    store = MemoryStore(clock, registry, 2)
    full = registry.counter("mixer_store_errors_total", "", ("reason",)).labels("memory_full")
    assert await store.add([charge(clock, who) for who in "abc"]) == [1, 1, None]
    assert await store.add([charge(clock, who) for who in "abcd"]) == [2, 2, None, None]
    assert full.value == 3
    assert await store.add([charge(clock, "c", hits=0)]) == [0]
    assert full.value == 3
    clock.advance(60)
    assert await store.add([charge(clock, who) for who in "cd"]) == [1, 1]
    assert full.value == 3


async def test_capacity_may_change(clock: FakeClock, registry: Registry) -> None:
    store = MemoryStore(clock, registry, 1)
    assert await store.add([charge(clock, who) for who in "ab"]) == [1, None]
    store.capacity = 2
    assert await store.add([charge(clock, who) for who in "ab"]) == [2, 1]
    store.capacity = 1
    assert await store.add([charge(clock, who) for who in "abc"]) == [3, 2, None]


async def test_the_dead_are_freed_a_few_at_a_time(clock: FakeClock, registry: Registry) -> None:
    store = MemoryStore(clock, registry, 10_000)
    await store.add([charge(clock, str(number)) for number in range(1000)])
    clock.advance(60)
    before = store.held
    await store.add([charge(clock, "x")])
    freed = before + 1 - store.held
    assert 1 < freed < 100
    for _ in range(1000):
        await store.add([charge(clock, "x")])
    assert store.held == store.live == 1


async def test_setting_the_wall_clock_drops_no_live_counter(clock: FakeClock, registry: Registry) -> None:
    store = MemoryStore(clock, registry, 10)
    assert await store.add([charge(clock, "a")]) == [1]
    clock.jump(86_400)
    assert await store.add([charge(clock, "a")]) == [1]
    clock.jump(-86_400)
    assert await store.add([charge(clock, "a")]) == [2]


async def test_a_window_that_the_clock_makes_longer_keeps_its_counters(clock: FakeClock, registry: Registry) -> None:
    """12:00:20 set back to 12:00:00: what was to end in 40 s ends in 60."""
    store = MemoryStore(clock, registry, 10)
    assert await store.add([charge(clock, "a")]) == [1]
    clock.jump(-20)
    assert await store.add([charge(clock, "a")]) == [2]
    clock.advance(59)
    assert await store.add([charge(clock, "a")]) == [3]
    clock.advance(1)
    assert await store.add([charge(clock, "a")]) == [1]


async def test_the_dead_make_room_for_as_many_new(clock: FakeClock, registry: Registry) -> None:
    store = MemoryStore(clock, registry, 100)
    for _ in range(3):
        assert await store.add([charge(clock, str(number)) for number in range(101)]) == [1] * 100 + [None]
        clock.advance(60)


PARTS = st.lists(st.text(max_size=4) | st.text(min_size=300, max_size=310), max_size=6).map(tuple)


@given(st.tuples(st.text(max_size=2), PARTS), st.tuples(st.text(max_size=2), PARTS))
def test_identities_are_equal_only_for_equal_entries(one: tuple, other: tuple) -> None:
    identities = [counter_identity(domain, "fixed_window/60", entries) for domain, entries in (one, other)]
    assert (identities[0] == identities[1]) == (one == other)


@pytest.mark.parametrize("entries", [("k", "v" * 100_000), ("k",) * 100_000])
def test_an_identity_is_small_whatever_the_caller_sends(entries: tuple[str, ...]) -> None:
    assert len(repr(counter_identity("d", "fixed_window/60", entries))) < 300
    assert counter_identity("d", "w", ("ab", "c" * 600)) != counter_identity("d", "w", ("a", "b" + "c" * 600))

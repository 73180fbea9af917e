"""Counters that are known to be over: refused without a question, exactly as long as the store would refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.instruments import FakeClock, Registry
from mixer_py.ratelimit.algorithms import COUNT, SECOND, Tally, Terms
from mixer_py.ratelimit.stores import Charge
from mixer_py.ratelimit.stores.local_cache import LocalCache
from mixer_py.ratelimit.stores.memory import MemoryStore

ALGORITHMS = sorted(COUNT)


class Asked(MemoryStore):
    """Remembers what it was asked."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock, Registry(), 10_000)
        self.asked: list[list[tuple[str | bytes, int]]] = []

    async def charge(self, charges: Sequence[Charge], *, together: bool = False) -> Sequence[Tally | None]:
        self.asked.append([(one.identity[-1], one.hits) for one in charges])
        return await super().charge(charges, together=together)


def charge(who: str, hits: int = 1, limit: int = 2, algorithm: str = "fixed_window") -> Charge:
    terms = Terms(algorithm, 60 * SECOND, limit, limit)  # type: ignore[arg-type]
    return Charge((algorithm, who), terms, hits)


def brief(tallies: Sequence[Tally | None]) -> list[tuple[bool, int]]:
    return [(tally.admitted, tally.remaining) for tally in tallies if tally is not None]


@pytest.fixture
def store(clock: FakeClock) -> Asked:
    clock.advance(-(clock.wall() % 60))
    return Asked(clock)


@pytest.fixture
def cache(store: Asked, clock: FakeClock, registry: Registry) -> LocalCache:
    return LocalCache(store, 3, registry, clock)


async def test_what_is_over_is_refused_without_a_question(store, cache, clock, registry) -> None:
    await cache.charge([charge("a", 2)])
    clock.advance(10.25)
    assert await cache.charge([charge("a", 7)]) == [Tally(False, 0, 7, 49_750_000, 49_750_000, True)]
    assert store.asked == [[("a", 2)]]
    assert registry.counter("mixer_counters_answered_locally_total", "").labels().value == 1
    clock.advance(49.75)
    assert brief(await cache.charge([charge("a")])) == [(True, 1)]


async def test_only_what_is_not_known_is_asked(store, cache) -> None:
    await cache.charge([charge("a", 2)])
    assert brief(await cache.charge([charge("b"), charge("a"), charge("c"), charge("a", 0)])) == [
        (True, 1), (False, 0), (True, 1), (True, 0),
    ]  # fmt: skip
    assert store.asked[-1] == [("b", 1), ("c", 1), ("a", 0)]


async def test_nothing_of_what_goes_together_is_charged_when_one_is_known_to_be_over(store, cache) -> None:
    await cache.charge([charge("a", 2)])
    assert brief(await cache.charge([charge("b"), charge("a")], together=True)) == [(True, 2), (False, 0)]
    assert store.asked[-1] == [("b", 0)]
    assert brief(await cache.charge([charge("a"), charge("a")], together=True)) == [(False, 0)] * 2
    assert len(store.asked) == 2


async def test_hits_that_are_given_back_are_known_at_once(store, cache) -> None:
    await cache.charge([charge("a", 2)])
    assert brief(await cache.charge([charge("a", -1)])) == [(True, 1)]
    assert brief(await cache.charge([charge("a")])) == [(True, 0)]


async def test_another_limit_is_asked_for(store, cache) -> None:
    await cache.charge([charge("a", 2)])
    assert brief(await cache.charge([charge("a", limit=5)])) == [(True, 2)]
    assert brief(await cache.charge([charge("a", limit=5)])) == [(True, 1)]


async def test_the_first_that_was_learnt_makes_room(store, cache) -> None:
    for who in "abcd":
        await cache.charge([charge(who, 2)])
    for who in "dcb":
        await cache.charge([charge(who)])
    assert len(store.asked) == 4
    await cache.charge([charge("a")])
    assert len(store.asked) == 5


LIMITS = {"a": 2, "b": 3}
CHARGES = st.builds(
    lambda who, hits, algorithm: charge(who, hits, LIMITS[who], algorithm),
    st.sampled_from("ab"),
    st.sampled_from([0, 1, 1, 2, 5]),
    st.sampled_from(ALGORITHMS),
)
WAITS = st.sampled_from([0.0, 0.0, 0.001, 1.0, 7.3, 59.0])
STEPS = st.lists(st.tuples(WAITS, st.lists(CHARGES, min_size=1, max_size=3), st.booleans()), max_size=40)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_it_admits_what_the_store_alone_admits(steps: list[tuple[float, list[Charge], bool]]) -> None:
    clock = FakeClock()
    alone, behind = MemoryStore(clock, Registry(), 100), MemoryStore(clock, Registry(), 100)
    cache = LocalCache(behind, 2, Registry(), clock)

    async def run() -> None:
        for wait, charges, together in steps:
            clock.advance(wait)
            wanted = await alone.charge(charges, together=together)
            told = await cache.charge(charges, together=together)
            for asked, one, other in zip(charges, told, wanted, strict=True):
                assert one is not None
                assert other is not None
                assert one.remaining == other.remaining
                if asked.hits:  # a look tells of hits over the limit, which are not counted when refused here
                    assert one.admitted == other.admitted

    asyncio.run(run())

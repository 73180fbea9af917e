"""What every store does: one suite over memory and every way to reach a Redis or a Valkey."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from mixer_py.instruments import FakeClock, Registry
from mixer_py.ratelimit.algorithms import COUNT, SECOND, Terms
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores import Charge, CounterStore
from mixer_py.ratelimit.stores.opening import open_store
from tests.ratelimit.store_kinds import KINDS, Kind, Settings

ALGORITHMS = sorted(COUNT)
_PREFIXES = itertools.count()

OpenStore = Callable[..., Any]


@pytest.fixture(
    scope="module", params=[pytest.param(kind, marks=getattr(pytest.mark, kind.part), id=kind.name) for kind in KINDS]
)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture(scope="module")
def reached(kind: Kind, module_programs, ports) -> Settings:
    """The settings that lead to a store of this kind."""
    return kind.start(module_programs, ports)


@pytest.fixture
async def open_one(reached: Settings, clock: FakeClock, registry: Registry) -> AsyncIterator[OpenStore]:
    """Opens the store, which goes by a clock that the test moves; every one of a test counts together."""
    redis = {"prefix": f"test {next(_PREFIXES)} ", "expiry_jitter": "10m", "connect_timeout": "30s"}
    settings: dict[str, Any] = {"time": "caller", "timeout": "10s", **reached}
    settings["redis"] = {**redis, **settings.get("redis", {})}
    async with AsyncExitStack() as stack:

        async def make(**other: Any) -> CounterStore:
            return await stack.enter_async_context(_opened({**settings, **other}, clock, registry))

        yield make


@asynccontextmanager
async def _opened(settings: dict[str, Any], clock: FakeClock, registry: Registry) -> AsyncIterator[CounterStore]:
    store = open_store(RateLimitSettings.model_validate(settings), registry, clock)
    store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(open_one: OpenStore) -> CounterStore:
    return await open_one()


def charge(
    who: str | bytes, hits: int = 1, limit: int = 5, seconds: int = 60, algorithm: str = "fixed_window"
) -> Charge:
    terms = Terms(algorithm, seconds * SECOND, limit, limit)  # type: ignore[arg-type]
    return Charge(("d", f"{algorithm}/{seconds}", who), terms, hits)


async def left(store: CounterStore, *charges: Charge, together: bool = False) -> list[tuple[bool, int]]:
    tallies = await store.charge(charges, together=together)
    return [(tally.admitted, tally.remaining) for tally in tallies]  # type: ignore[union-attr]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_hits_are_admitted_up_to_the_limit(store: CounterStore, algorithm: str) -> None:
    one = charge("a", 2, algorithm=algorithm)
    refused = (False, 0 if algorithm == "fixed_window" else 1)
    assert [await left(store, one) for _ in range(3)] == [[(True, 3)], [(True, 1)], [refused]]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_counter_tells_when_it_is_free_again(store: CounterStore, clock: FakeClock, algorithm: str) -> None:
    clock.advance(-(clock.wall() % 60) + 15)
    (tally,) = await store.charge([charge("a", 5, algorithm=algorithm)])
    assert tally is not None
    wanted = {"fixed_window": (45, 45), "sliding_window": (105, 57), "token_bucket": (60, 12)}
    assert (tally.reset / SECOND, tally.retry / SECOND) == wanted[algorithm]
    clock.advance(wanted[algorithm][1] - 0.001)
    assert await left(store, charge("a", algorithm=algorithm)) == [(False, 0)]
    clock.advance(0.001)
    ((admitted, _),) = await left(store, charge("a", algorithm=algorithm))
    assert admitted


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_after_its_reset_a_counter_is_as_if_it_had_never_been(store, clock, algorithm: str) -> None:
    (tally,) = await store.charge([charge("a", 3, algorithm=algorithm)])
    clock.advance(tally.reset / SECOND)
    assert await left(store, charge("a", algorithm=algorithm)) == [(True, 4)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_no_hits_look_and_leave_nothing(store: CounterStore, algorithm: str) -> None:
    look = charge("a", 0, algorithm=algorithm)
    assert await left(store, look, look) == [(True, 5), (True, 5)]
    await left(store, charge("a", 3, algorithm=algorithm))
    assert await left(store, look, look) == [(True, 2), (True, 2)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_negative_hits_are_given_back_down_to_nothing(store: CounterStore, algorithm: str) -> None:
    await left(store, charge("a", 4, algorithm=algorithm))
    assert await left(store, charge("a", -2, algorithm=algorithm)) == [(True, 3)]
    assert await left(store, charge("a", -20, algorithm=algorithm)) == [(True, 5)]
    assert await left(store, charge("b", -1, algorithm=algorithm)) == [(True, 5)]
    assert await left(store, charge("b", algorithm=algorithm)) == [(True, 4)]


async def test_fixed_windows_count_also_what_does_not_fit(store: CounterStore) -> None:
    await left(store, charge("a", 9))
    assert await left(store, charge("a", 0, limit=10)) == [(True, 1)]
    tallies = await store.charge([charge("b", 3), charge("b", 4), charge("b", 4)])
    assert [tally.over for tally in tallies] == [0, 2, 4]


@pytest.mark.parametrize("algorithm", ["sliding_window", "token_bucket"])
async def test_the_others_count_only_what_fits(store: CounterStore, algorithm: str) -> None:
    await left(store, charge("a", 9, algorithm=algorithm))
    assert await left(store, charge("a", 0, limit=10, algorithm=algorithm)) == [(True, 10)]
    (tally,) = await store.charge([charge("b", 7, algorithm=algorithm)])
    assert tally.over == 7


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_more_hits_than_a_double_holds_are_too_many(store: CounterStore, algorithm: str) -> None:
    assert (await left(store, charge("a", 2**64 - 1, algorithm=algorithm)))[0][0] is False
    assert await left(store, charge("b", -(2**64), algorithm=algorithm)) == [(True, 5)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_what_is_charged_together_is_charged_whole_or_not_at_all(store: CounterStore, algorithm: str) -> None:
    first, second = charge("a", 2, algorithm=algorithm), charge("b", 4, algorithm=algorithm)
    assert await left(store, first, second, together=True) == [(True, 3), (True, 1)]
    assert await left(store, first, second, together=True) == [(True, 3), (False, 1)]
    assert await left(store, first, first, together=True) == [(True, 3), (False, 1)]
    assert await left(store, charge("a", 1, algorithm=algorithm), first, together=True) == [(True, 2), (True, 0)]


async def test_one_request_may_charge_a_counter_several_times(store: CounterStore) -> None:
    assert await left(store, *[charge("a", 2)] * 3) == [(True, 3), (True, 1), (False, 0)]


async def test_a_limit_that_changes_goes_on_with_the_same_counter(store: CounterStore) -> None:
    await left(store, charge("a", 3))
    assert await left(store, charge("a", limit=10)) == [(True, 6)]
    assert await left(store, charge("a", limit=2)) == [(False, 0)]


async def test_different_identities_never_share_a_counter(store: CounterStore) -> None:
    terms = charge("a").terms
    identities = [
        ("d", "w", "a", "b_c"), ("d", "w", "a_b", "c"), ("d", "w", "a:b", "c"), ("d", "w", "a", "1:b", "c"),
        ("d", "w", "a1:b", "c"), ("d", "w", ""), ("d", "w"), ("d", "w", "", ""), ("d", "w", "61"), ("d", "w", b"a"),
        ("d", "w", "ä"), ("d", "w", "\ud800"), ("d", "w", "a\r\n$3\r\nfoo"), ("d", "w", "{a}", "b"), ("d", "w", "{a}b"),
    ]  # fmt: skip
    tallies = await store.charge([Charge(identity, terms, 1) for identity in identities])
    assert [tally.remaining for tally in tallies] == [4] * len(identities)


async def test_the_charges_of_one_turn_find_their_own_answers(store: CounterStore) -> None:
    answers = await asyncio.gather(*(left(store, *[charge(f"{n} {m}", m) for m in range(n % 5)]) for n in range(300)))
    assert answers == [[(True, 5 - m) for m in range(n % 5)] for n in range(300)]


async def test_a_request_that_nobody_waits_for_any_more_harms_no_other(store: CounterStore) -> None:
    tasks = [asyncio.create_task(left(store, charge(str(number)))) for number in range(50)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[1::2] == [[(True, 4)]] * 25


async def test_a_request_may_have_very_many_charges(store: CounterStore) -> None:
    assert await left(store, *[charge(str(number)) for number in range(1024)]) == [(True, 4)] * 1024
    assert await left(store, *[charge(str(number)) for number in range(1024)], together=True) == [(True, 3)] * 1024


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_clients_together_never_pass_the_limit(kind, open_one: OpenStore, clock, algorithm: str) -> None:
    stores = [await open_one() for _ in range(4 if kind.shared else 1)]
    clock.advance(-(clock.wall() % 60))
    one = charge("a", limit=100, algorithm=algorithm)
    answers = await asyncio.gather(*(left(stores[number % len(stores)], one) for number in range(400)))
    assert sum(admitted for ((admitted, _),) in answers) == 100


async def test_nothing_to_charge_is_charged_at_once(store: CounterStore) -> None:
    assert list(await store.charge([])) == []

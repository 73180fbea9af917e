"""What a worker hands on of its counters, by where they are."""

from __future__ import annotations

from pathlib import Path

from mixer_py.instruments import FakeClock, Registry
from mixer_py.ratelimit.algorithms import SECOND, Terms
from mixer_py.ratelimit.stores import Charge
from mixer_py.ratelimit.stores.local_cache import LocalCache
from mixer_py.ratelimit.stores.memory import MemoryStore
from mixer_py.runtime.succession import hand_on, hand_on_rest, inherit

ONE = Charge(("d", "a"), Terms("fixed_window", 60 * SECOND, 5, 5), 1)


async def left(store: MemoryStore | LocalCache) -> int:
    (tally,) = await store.charge([ONE])
    assert tally is not None
    return tally.remaining


async def test_counters_in_memory_are_counted_on(tmp_path: Path) -> None:
    clock = FakeClock()
    old, new = (MemoryStore(clock, Registry(), 10) for _ in range(2))
    assert await left(old) == 4
    first = await hand_on(old, tmp_path)
    assert await left(old) == 3
    for path in (first, await hand_on_rest(old, tmp_path)):
        assert await inherit(new, path) == 0
    assert await left(new) == 2
    assert list(tmp_path.iterdir()) == []


async def test_of_counters_that_are_shared_nothing_is_handed_on(tmp_path: Path) -> None:
    clock = FakeClock()
    shared = MemoryStore(clock, Registry(), 10)
    old, new = (LocalCache(shared, 10, Registry(), clock) for _ in range(2))
    assert await left(old) == 4
    for path in (await hand_on(old, tmp_path), await hand_on_rest(old, tmp_path)):
        assert path.read_bytes() == b""
        assert await inherit(new, path) == 0
    assert await left(new) == 3
    assert list(tmp_path.iterdir()) == []


async def test_from_memory_to_a_shared_store_and_back_counting_begins_anew(tmp_path: Path) -> None:
    clock = FakeClock()
    memory = MemoryStore(clock, Registry(), 10)
    shared = LocalCache(MemoryStore(clock, Registry(), 10), 10, Registry(), clock)
    await left(memory)
    assert await inherit(shared, await hand_on(memory, tmp_path)) == 0
    assert await left(shared) == 4
    assert await inherit(MemoryStore(clock, Registry(), 10), await hand_on(shared, tmp_path)) == 0
    assert list(tmp_path.iterdir()) == []

"""The recorder with a spool: nothing is dropped that memory or disk has room for, and every row is in the books."""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.errors import SinkError
from mixer_py.instruments import Registry, SystemClock
from mixer_py.telemetry.columns import TABLES
from mixer_py.telemetry.decision_columns import DECISIONS
from mixer_py.telemetry.recorder import Recorder
from mixer_py.telemetry.settings import QueueSettings
from mixer_py.telemetry.spool.spool import Spool, SpoolFolder
from mixer_py.telemetry.spool.table_spool import conform
from tests.recording.test_recorder import Shelf, booked, rows

QUICK = QueueSettings(rows=100, block_rows=10, block_interval="5ms")
MANY = 1 << 30


def spool(folder: Path, life: str = "life", size: int = MANY) -> SpoolFolder:
    return SpoolFolder(folder, life, tuple(TABLES), size)


def recorder(shelf: Shelf, registry: Registry, folder: SpoolFolder, *, first: bool = False) -> Recorder:
    made = Recorder(QUICK, registry, SystemClock(), shelf, folder, spool_first=first)
    made.start()
    return made


def books(registry: Registry) -> Counter[str]:
    """What `booked` tells, with the rows on disk."""
    counts = booked(registry)
    for series, values in registry.read():
        if series.name == "mixer_spool_rows" and dict(series.labels)["table"] == "decisions":
            counts["on_disk"] += int(values[0])
    return +counts


def is_balanced(counts: Counter[str]) -> bool:
    dropped = sum(rows for state, rows in counts.items() if state.startswith("dropped"))
    return counts["received"] + counts["adopted"] == counts["written"] + dropped + counts["waiting"] + counts["on_disk"]


async def until(registry: Registry, state: str, count: int) -> Counter[str]:
    for _ in range(2000):
        counts = books(registry)
        if counts[state] >= count:
            return counts
        await asyncio.sleep(0.01)
    raise AssertionError(f"never {count} {state}: {books(registry)}")


async def test_what_memory_has_no_room_for_waits_on_disk_and_is_written_in_order(tmp_path: Path) -> None:
    registry, shelf = Registry(), Shelf()
    shelf.hanging.clear()
    recording = recorder(shelf, registry, spool(tmp_path))
    for first in range(0, 1000, 10):
        recording.put("decisions", rows(10, first))
        await asyncio.sleep(0.002)
    counts = await until(registry, "spooled", 900)
    assert not any(state.startswith("dropped") for state in counts)
    assert counts["waiting"] <= 100
    assert is_balanced(counts)
    shelf.hanging.set()
    counts = await until(registry, "written", 1000)
    assert await recording.drain(10) == 0
    assert shelf.kept == [str(index) for index in range(1000)]
    assert is_balanced(books(registry))
    assert list(tmp_path.iterdir()) == []


async def test_with_room_in_memory_nothing_is_spooled_unless_always(tmp_path: Path) -> None:
    for mode in (False, True):
        registry, shelf = Registry(), Shelf()
        recording = recorder(shelf, registry, spool(tmp_path), first=mode)
        for first in range(0, 30, 3):
            recording.put("decisions", rows(3, first))
        await until(registry, "written", 30)
        assert await recording.drain(10) == 0
        assert shelf.kept == [str(index) for index in range(30)]
        assert books(registry)["spooled"] == (30 if mode else 0)


@pytest.mark.parametrize("first", [False, True])
async def test_what_is_left_at_the_end_is_written_by_the_next_once(tmp_path: Path, first: bool) -> None:
    shelf, registry = Shelf(), Registry()
    shelf.failures = 1.0  # half of the failures are answers that were lost
    recording = recorder(shelf, registry, spool(tmp_path), first=first)
    for number in range(0, 80, 10):
        recording.put("decisions", rows(10, number))
    await asyncio.sleep(0.3)
    assert await recording.drain(0.1) == 0
    counts = books(registry)
    assert counts["spooled"] == 80
    assert is_balanced(counts)
    shelf.failures = 0.0
    after = Registry()
    recording = recorder(shelf, after, spool(tmp_path, "later"))
    counts = await until(after, "written", 80)
    assert counts["received"] == 80, "rows of an earlier run are received anew: the counters began anew, too"
    assert await recording.drain(10) == 0
    assert sorted(map(int, shelf.kept)) == list(range(80)), "a block goes on with the token that it had"


async def test_rows_of_a_process_of_the_same_run_are_adopted(tmp_path: Path) -> None:
    shelf, registry = Shelf(), Registry()
    shelf.hanging.clear()
    recording = recorder(shelf, registry, spool(tmp_path))
    recording.put("decisions", rows(30))
    await recording.drain(0.1)
    shelf.hanging.set()
    after = Registry()
    recording = recorder(shelf, after, spool(tmp_path))
    counts = await until(after, "written", 30)
    assert (counts["adopted"], counts["received"]) == (30, 0)
    await recording.drain(10)
    assert is_balanced(books(after))


async def test_a_full_spool_drops_the_oldest_and_says_so(tmp_path: Path) -> None:
    registry, shelf = Registry(), Shelf()
    shelf.hanging.clear()
    recording = recorder(shelf, registry, spool(tmp_path, size=200_000))
    for first in range(0, 5000, 10):
        recording.put("decisions", rows(10, first))
        await asyncio.sleep(0.001)
    counts = await until(registry, "dropped:spool_full", 1)
    shelf.hanging.set()
    assert await recording.drain(20) == 0
    counts = books(registry)
    assert is_balanced(counts)
    lost = counts["dropped:spool_full"] + counts["dropped:queue_full"]
    assert len(shelf.kept) == 5000 - lost
    assert shelf.kept[-1] == "4999"


async def test_rows_that_were_promised_room_are_dropped_from_no_spool(tmp_path: Path) -> None:
    registry, shelf = Registry(), Shelf()
    shelf.hanging.clear()
    recording = recorder(shelf, registry, spool(tmp_path, size=100_000))
    put = 0
    while recording.has_room("decisions", 10, 0):
        recording.put("decisions", rows(10, put), promised=True)
        put += 10
        await asyncio.sleep(0.005)
        assert put < 20_000, "memory and disk are never full"
    assert put > 200, "what is on disk needs no room in memory"
    shelf.hanging.set()
    assert await recording.drain(20) == 0
    assert len(shelf.kept) == put


async def test_a_disk_that_fails_costs_nothing_while_memory_has_room(tmp_path: Path, monkeypatch) -> None:
    registry, shelf = Registry(), Shelf()
    shelf.hanging.clear()

    def fail(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(Spool, "append", fail)
        recording = recorder(shelf, registry, spool(tmp_path))
        recording.put("decisions", rows(70))
        errors = registry.counter("mixer_store_errors_total", "", ("reason",)).labels("spool")
        for _ in range(500):
            if errors.value:
                break
            await asyncio.sleep(0.01)
        assert errors.value
        assert books(registry) == {"received": 70, "waiting": 70}
    shelf.hanging.set()
    assert await recording.drain(10) == 0
    assert len(shelf.kept) == 70


class Gone(Shelf):
    async def write(self, table: str, batch: pa.RecordBatch, token: str) -> None:
        raise SinkError("nobody there", "away")


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 60), max_size=15), st.sampled_from([0.0, 0.4]), st.booleans(), st.booleans())
def test_the_books_balance(tmp_path_factory, batches: list[int], failures: float, first: bool, gone: bool) -> None:
    folder = tmp_path_factory.mktemp("spool")

    async def story() -> None:
        registry, shelf = Registry(), Gone() if gone else Shelf(failures)
        recording = recorder(shelf, registry, spool(folder), first=first)
        put = 0
        for count in batches:
            recording.put("decisions", rows(count, put))
            put += count
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.05)
        await recording.drain(0.3)
        counts = books(registry)
        assert counts["received"] == put
        assert is_balanced(counts), counts
        assert counts["waiting"] == 0
        assert len(set(shelf.kept)) == len(shelf.kept)

    asyncio.run(story())


def test_rows_that_another_version_spooled_get_what_is_new() -> None:
    batch = rows(2)
    old = batch.drop_columns(["rule"])
    old = pa.RecordBatch.from_arrays(
        [*old.columns, pa.array(["x", "y"])], names=[*old.schema.names, "no_longer_a_column"]
    )
    new = conform(DECISIONS, old)
    assert new.schema.names == batch.schema.names
    assert new.column("rule").to_pylist() == ["", ""]
    assert new.column("decision_id").to_pylist() == ["0", "1"]
    assert conform(DECISIONS, batch) is batch

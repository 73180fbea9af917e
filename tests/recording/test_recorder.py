from __future__ import annotations

import asyncio
import errno
import random
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.errors import SinkError
from mixer_py.instruments import Registry, SystemClock
from mixer_py.telemetry.booking import REASONS, ROWS
from mixer_py.telemetry.columns import TABLES
from mixer_py.telemetry.decision_columns import DECISIONS
from mixer_py.telemetry.recorder import Recorder
from mixer_py.telemetry.settings import QueueSettings

QUICK = QueueSettings(rows=100, block_rows=10, block_interval="5ms")


def rows(count: int, first: int = 0) -> pa.RecordBatch:
    """`count` decisions with the ids `first` and on."""
    ids = [str(first + index) for index in range(count)]
    return pa.RecordBatch.from_arrays(
        [
            pa.array(ids if column.name == "decision_id" else [column.kind.default] * count, column.kind.arrow)
            for column in DECISIONS.columns
        ],
        schema=DECISIONS.schema,
    )


class Shelf:
    """A sink that keeps what it is given by token, and fails or hangs when told."""

    def __init__(self, failures: float = 0.0) -> None:
        self.blocks: dict[str, list[str]] = {}
        self.failures = failures
        self.begun = asyncio.Event()
        self.hanging = asyncio.Event()
        self.hanging.set()
        self.at_once = Counter[str]()
        self._random = random.Random(7)

    async def write(self, table: str, batch: pa.RecordBatch, token: str) -> None:
        self.at_once[table] += 1
        assert self.at_once[table] == 1, "one block a table at a time"
        self.begun.set()
        try:
            await asyncio.sleep(0)
            await self.hanging.wait()
            if self._random.random() < self.failures:
                if self._random.random() < 0.5:  # stored, but the answer is lost
                    self.blocks[token] = batch.column("decision_id").to_pylist()
                raise SinkError("no answer", "away")
            self.blocks[token] = batch.column("decision_id").to_pylist()
        finally:
            self.at_once[table] -= 1

    async def close(self) -> None:
        pass

    @property
    def kept(self) -> list[str]:
        return [row for block in self.blocks.values() for row in block]


def booked(registry: Registry) -> Counter[str]:
    """Rows by `state` or `dropped:reason`, and those that wait."""
    counts = Counter[str]()
    for series, values in registry.read():
        labels = dict(series.labels)
        if labels.get("table") != "decisions":
            continue
        if series.name == ROWS:
            counts[labels["state"] + (f":{labels['reason']}" if labels["reason"] else "")] += int(values[0])
        elif series.name == "mixer_queue_rows":
            counts["waiting"] += int(values[0])
    return +counts


async def test_rows_are_written_in_order_and_booked() -> None:
    registry, shelf = Registry(), Shelf()
    recorder = Recorder(QUICK, registry, SystemClock(), shelf)
    recorder.start()
    for first in range(0, 30, 3):
        recorder.put("decisions", rows(3, first))
    assert await recorder.drain(10) == 0
    assert shelf.kept == [str(index) for index in range(30)]
    assert booked(registry) == {"received": 30, "written": 30}


async def test_a_block_is_written_when_its_first_row_is_old_enough() -> None:
    registry, shelf = Registry(), Shelf()
    recorder = Recorder(QUICK, registry, SystemClock(), shelf)
    recorder.start()
    recorder.put("decisions", rows(1))
    for _ in range(500):
        if shelf.kept:
            break
        await asyncio.sleep(0.01)
    assert shelf.kept == ["0"]
    await recorder.drain(1)


async def test_above_the_bound_the_oldest_are_dropped_and_booked_and_putting_never_waits() -> None:
    registry, shelf = Registry(), Shelf()
    shelf.hanging.clear()
    recorder = Recorder(QUICK, registry, SystemClock(), shelf)
    recorder.start()
    recorder.put("decisions", rows(10))
    await asyncio.wait_for(shelf.begun.wait(), 10)
    for first in range(10, 210, 10):
        recorder.put("decisions", rows(10, first))
    assert booked(registry) == {"received": 210, "dropped:queue_full": 110, "waiting": 100}
    shelf.hanging.set()
    assert await recorder.drain(10) == 0
    assert shelf.kept == [str(index) for index in (*range(10), *range(120, 210))]
    assert booked(registry) == {"received": 210, "written": 100, "dropped:queue_full": 110}


async def test_a_batch_larger_than_all_room_leaves_what_fits_and_the_rest_is_booked() -> None:
    registry, shelf = Registry(), Shelf()
    recorder = Recorder(QUICK, registry, SystemClock(), shelf)
    recorder.put("decisions", rows(1000))
    books = booked(registry)
    assert books["received"] == 1000 == books["dropped:queue_full"] + books["waiting"]
    assert 85 < books["waiting"] <= 100
    recorder.start()
    assert await recorder.drain(10) == 0
    assert shelf.kept == [str(index) for index in range(1000 - books["waiting"], 1000)], "the newest are kept"


async def test_a_batch_of_too_many_bytes_is_taken_in_parts_too() -> None:
    registry, batch = Registry(), rows(1000)
    few = QueueSettings(bytes=batch.nbytes // 10, block_interval="1h")
    recorder = Recorder(few, registry, SystemClock(), Shelf())
    recorder.put("decisions", batch)
    books = booked(registry)
    assert books["received"] == 1000 == books["dropped:queue_full"] + books["waiting"]
    assert 80 < books["waiting"] <= 100
    assert await recorder.drain(0) == books["waiting"]


async def test_every_reason_to_drop_rows_is_shown_before_it_is_met() -> None:
    """Prometheus' increase() does not see the first of a counter that it has not seen before."""
    registry = Registry()
    Recorder(QUICK, registry, SystemClock(), Shelf())
    shown = {(labels["table"], labels["reason"]): values[0] for series, values in registry.read()
             if series.name == ROWS and (labels := dict(series.labels))["state"] == "dropped"}  # fmt: skip
    assert shown == {(table, reason): 0 for table, reasons in REASONS.items() for reason in reasons}
    assert set(REASONS) == set(TABLES)


async def test_what_cannot_be_written_before_the_end_is_booked_as_dropped() -> None:
    registry, shelf = Registry(), Shelf()
    shelf.hanging.clear()
    recorder = Recorder(QUICK, registry, SystemClock(), shelf)
    recorder.start()
    recorder.put("decisions", rows(25))
    assert await recorder.drain(0.1) == 25
    assert booked(registry) == {"received": 25, "dropped:shutdown": 25}


async def test_the_bound_is_one_of_bytes_too() -> None:
    registry, shelf = Registry(), Shelf()
    batch = rows(5)
    recorder = Recorder(QueueSettings(bytes=3 * batch.nbytes, block_interval="1h"), registry, SystemClock(), shelf)
    for first in range(0, 25, 5):
        recorder.put("decisions", rows(5, first + 100))
    dropped, waiting = booked(registry)["dropped:queue_full"], booked(registry)["waiting"]
    assert dropped + waiting == 25
    assert 0 < waiting <= 15
    recorder.start()
    assert await recorder.drain(10) == 0
    assert shelf.kept == [str(index) for index in range(100 + dropped, 125)]


async def test_rows_that_were_promised_room_are_never_dropped_for_want_of_it() -> None:
    registry, shelf = Registry(), Shelf()
    shelf.hanging.clear()
    recorder = Recorder(QUICK, registry, SystemClock(), shelf)
    recorder.start()
    assert recorder.has_room("decisions", 99, 0)
    assert not recorder.has_room("decisions", 100, 0)
    assert not recorder.has_room("decisions", 0, QUICK.bytes)
    recorder.put("decisions", rows(99), promised=True)
    assert recorder.has_room("decisions", 0, 0)
    assert not recorder.has_room("decisions", 1, 0)
    recorder.put("decisions", rows(11, 99), promised=True)
    assert not recorder.has_room("decisions", 0, 0)
    waiting = asyncio.create_task(recorder.freed("decisions"))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    shelf.hanging.set()
    await asyncio.wait_for(waiting, 10)
    assert await recorder.drain(10) == 0
    assert shelf.kept == [str(index) for index in range(110)]
    assert booked(registry) == {"received": 110, "written": 110}


async def test_rows_of_a_table_that_waits_are_never_dropped_for_want_of_room() -> None:
    registry, shelf = Registry(), Shelf()
    shelf.hanging.clear()
    recorder = Recorder(QUICK, registry, SystemClock(), shelf, waiting_tables=["decisions"])
    recorder.start()
    for first in range(0, 150, 50):
        recorder.put("decisions", rows(50, first))
    assert booked(registry) == {"received": 150, "waiting": 150}
    waiting = asyncio.create_task(recorder.room("decisions"))
    await recorder.room("requests")  # of other tables the oldest rows are dropped, so there is always room
    await asyncio.sleep(0.02)
    assert not waiting.done()
    shelf.hanging.set()
    await asyncio.wait_for(waiting, 30)
    assert await recorder.drain(30) == 0
    assert shelf.kept == [str(index) for index in range(150)]


async def test_without_a_sink_nobody_waits_for_room() -> None:
    await Recorder(QUICK, Registry(), SystemClock(), None, waiting_tables=["decisions"]).room("decisions")


def test_without_a_sink_there_is_always_room() -> None:
    assert Recorder(QUICK, Registry(), SystemClock(), None).has_room("decisions", 1 << 40, 1 << 60)


async def test_draining_waits_for_no_more_rows() -> None:
    """Also what is left beside a full block, while that one is on its way."""
    registry, shelf = Registry(), Shelf()
    recorder = Recorder(QueueSettings(block_rows=10, block_interval="1h"), registry, SystemClock(), shelf)
    recorder.start()
    for first in range(0, 15, 5):
        recorder.put("decisions", rows(5, first))
    assert await recorder.drain(10) == 0
    assert shelf.kept == [str(index) for index in range(15)]


class Odd(Shelf):
    """A sink that fails as no sink should, so many times."""

    def __init__(self, times: int, fault: Exception | None = None) -> None:
        super().__init__()
        self.times = times
        self.fault = fault or ZeroDivisionError("odd")

    async def write(self, table: str, batch: pa.RecordBatch, token: str) -> None:
        self.times -= 1
        if self.times >= 0:
            raise self.fault
        await super().write(table, batch, token)


async def test_a_sink_that_fails_oddly_goes_on_writing() -> None:
    registry, shelf = Registry(), Odd(3)
    recorder = Recorder(QUICK, registry, SystemClock(), shelf)
    recorder.start()
    recorder.put("decisions", rows(5))
    assert await recorder.drain(10) == 0
    assert booked(registry) == {"received": 5, "written": 5}


async def test_a_block_that_no_sink_can_take_costs_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixer_py.telemetry.table_queue._LONGEST_RETRY", 0.001)
    registry, shelf = Registry(), Odd(5)
    recorder = Recorder(QUICK, registry, SystemClock(), shelf)
    recorder.start()
    recorder.put("decisions", rows(10))
    recorder.put("decisions", rows(5, 10))
    assert await recorder.drain(10) == 0
    assert booked(registry) == {"received": 15, "written": 5, "dropped:invalid": 10}
    assert shelf.kept == [str(index) for index in range(10, 15)]


@pytest.mark.parametrize(
    "fault", [OSError(errno.EMFILE, "Too many open files"), MemoryError()], ids=["files", "memory"]
)
async def test_what_this_process_lacks_costs_no_rows_however_long(monkeypatch: pytest.MonkeyPatch, fault) -> None:
    monkeypatch.setattr("mixer_py.telemetry.table_queue._LONGEST_RETRY", 0.001)
    registry, shelf = Registry(), Odd(20, fault)
    recorder = Recorder(QUICK, registry, SystemClock(), shelf)
    recorder.start()
    recorder.put("decisions", rows(5))
    assert await recorder.drain(60) == 0
    assert booked(registry) == {"received": 5, "written": 5}
    assert registry.counter("mixer_store_errors_total", "", ("reason",)).labels("resources").value == 20


async def test_rows_of_a_wrong_shape_never_reach_a_database() -> None:
    registry, shelf = Registry(), Shelf()
    recorder = Recorder(QUICK, registry, SystemClock(), shelf)
    recorder.start()
    recorder.put("decisions", rows(2).select(["decision_id"]))
    recorder.put("decisions", rows(1))
    await recorder.drain(10)
    assert booked(registry) == {"received": 3, "written": 1, "dropped:invalid": 2}


async def test_malformed_entries_are_received_and_dropped() -> None:
    registry = Registry()
    Recorder(QUICK, registry, SystemClock(), Shelf()).count_dropped("decisions", 3, "malformed")
    assert booked(registry) == {"received": 3, "dropped:malformed": 3}


async def test_without_a_sink_nothing_is_received() -> None:
    registry = Registry()
    recorder = Recorder(QUICK, registry, SystemClock(), None)
    recorder.start()
    recorder.put("decisions", rows(3))
    recorder.count_dropped("decisions", 3, "malformed")
    assert await recorder.drain(1) == 0
    assert booked(registry) == {}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=12), st.sampled_from([0.0, 0.3, 0.6]))
def test_received_is_written_plus_dropped_plus_waiting(batches: list[int], failures: float) -> None:
    async def story() -> None:
        registry, shelf = Registry(), Shelf(failures)
        recorder = Recorder(QUICK, registry, SystemClock(), shelf)
        recorder.start()
        first = 0
        for count in batches:
            recorder.put("decisions", rows(count, first))
            first += count
            await asyncio.sleep(0.001)
            counts = booked(registry)
            assert counts["received"] == first
            assert counts["received"] == counts["written"] + counts["dropped:queue_full"] + counts["waiting"]
        await recorder.drain(0.1)
        counts = booked(registry)
        assert counts["received"] == counts["written"] + counts["dropped:queue_full"] + counts["dropped:shutdown"]
        assert len(set(shelf.kept)) == len(shelf.kept), "a block that is written again keeps its token"
        assert counts["written"] <= len(shelf.kept) <= first

    asyncio.run(story())


@pytest.mark.parametrize("drained", [True, False])
async def test_draining_twice_or_without_a_start_is_harmless(drained: bool) -> None:
    recorder = Recorder(QUICK, Registry(), SystemClock(), Shelf())
    if drained:
        await recorder.drain(1)
    assert await recorder.drain(1) == 0

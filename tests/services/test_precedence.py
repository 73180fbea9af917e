"""Calls come before log entries: when a worker has no time for both, its log streams wait, and never for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from mixer_py.calls import Call
from mixer_py.instruments import FakeClock, Registry, SystemClock
from mixer_py.runtime.vital_signs import wanted_seconds
from mixer_py.services.access_log import AccessLogService
from mixer_py.services.precedence import Precedence
from mixer_py.telemetry.access_log.decoding import AccessLogDecoder
from tests.services.test_access_log import Rows, message, stream_of


class Worker:
    """What a precedence sees of a worker, by a clock that stands still; and what it makes of that."""

    def __init__(self) -> None:
        self.clock, self.registry = FakeClock(), Registry()
        self.wanted, self.calls = 0.0, 0
        self.precedence = Precedence(
            lambda: self.wanted, lambda: self.calls, self.clock, self.registry, look_seconds=3600
        )
        self.precedence.look()

    def goes_on(self, *, busy: float, calls: int, seconds: float = 0.05) -> bool:
        """Lets a time pass in which its loop was busy for a part, and calls came; whether log streams wait then."""
        self.clock.advance(seconds)
        self.wanted += busy * seconds
        self.calls += calls
        self.precedence.look()
        return self.precedence.holds

    def waited(self) -> float:
        return self.registry.counter("mixer_access_log_yielded_seconds_total", "").labels().value


def test_log_streams_wait_where_a_loop_never_rests_while_calls_come() -> None:
    assert Worker().goes_on(busy=1.0, calls=50)


def test_they_are_read_where_the_loop_has_time() -> None:
    assert not Worker().goes_on(busy=0.6, calls=50)


def test_they_are_read_as_fast_as_can_be_where_no_calls_come() -> None:
    assert not Worker().goes_on(busy=1.0, calls=0)


def test_they_are_read_again_as_soon_as_calls_leave_time_and_the_wait_is_counted() -> None:
    worker = Worker()
    assert worker.goes_on(busy=1.0, calls=50)
    assert worker.goes_on(busy=0.95, calls=50)
    assert not worker.goes_on(busy=0.5, calls=50)
    assert abs(worker.waited() - 0.1) < 1e-9


def test_they_get_a_part_of_the_time_however_many_calls_come() -> None:
    worker = Worker()
    held = [worker.goes_on(busy=1.0, calls=1000) for _ in range(200)]
    assert 5 <= held.count(False) <= 30
    longest = max(len(run) for run in "".join("x" if one else " " for one in held).split())
    assert longest * 0.05 <= 0.55


def test_nothing_waits_once_it_drains() -> None:
    worker = Worker()
    assert worker.goes_on(busy=1.0, calls=50)
    worker.precedence.release()
    assert not worker.precedence.holds
    worker.precedence.used()
    assert not worker.precedence.holds


async def endless(read: Callable[[], None]) -> AsyncIterator[bytes]:
    while True:
        read()
        yield message("/flood")
        await asyncio.sleep(0)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.001)


async def test_a_flood_of_logs_stands_still_while_calls_come_first_and_goes_on_then() -> None:
    """Counts who is served: calls are answered all the time, log messages only while the loop has time for them."""
    worker, rows, read = Worker(), Rows(), 0
    service = AccessLogService(AccessLogDecoder(), [], rows, Registry(), SystemClock(), worker.precedence)

    def count() -> None:
        nonlocal read
        read += 1

    streams = [asyncio.create_task(service.stream(endless(count), Call())) for _ in range(20)]
    await until(lambda: read > 1000)
    assert worker.goes_on(busy=1.0, calls=50)
    for _ in range(3):
        await asyncio.sleep(0)  # each stream ends what it was about
    before, calls = read, 0
    for _ in range(200):
        calls += 1  # a call's turn of the loop
        await asyncio.sleep(0)
    assert (calls, read) == (200, before)
    assert not worker.goes_on(busy=0.1, calls=1)
    await until(lambda: read > before + 1000)
    for stream in streams:
        stream.cancel()
    await asyncio.gather(*streams, return_exceptions=True)
    service.flush()


async def first_slice(worker: Worker) -> int:
    """How many messages make the first slice, of fifty messages of 100 KB that come at once."""
    rows = Rows()
    service = AccessLogService(AccessLogDecoder(), [], rows, Registry(), SystemClock(), worker.precedence)
    await service.stream(stream_of(*[message("/" + "x" * 100_000)] * 50), Call())
    return rows.put_together[0]


async def test_log_entries_are_worked_on_in_larger_slices_when_no_call_has_come_for_a_second() -> None:
    worker = Worker()
    assert not worker.goes_on(busy=0.5, calls=1)
    assert await first_slice(worker) == 6, "a call may come and wait for the slice"
    assert not worker.goes_on(busy=1.0, calls=0, seconds=1.0)
    assert await first_slice(worker) == 42
    worker.calls += 1  # nobody has looked since
    assert await first_slice(worker) == 6


async def test_a_stream_that_waits_is_read_to_its_end_when_the_worker_drains() -> None:
    worker, rows = Worker(), Rows()
    service = AccessLogService(AccessLogDecoder(), [], rows, Registry(), SystemClock(), worker.precedence)
    assert worker.goes_on(busy=1.0, calls=50)

    async def stream() -> AsyncIterator[bytes]:
        for index in range(5):
            yield message(f"/{index}")
        await asyncio.Event().wait()

    reading = asyncio.create_task(service.stream(stream(), Call()))
    await until(lambda: worker.precedence.holds and bool(service._streams))
    await asyncio.sleep(0.3)  # longer than a stream that has nothing on its way is left alone
    assert not rows.rows, "what is gathered waits for its turn, too"
    await service.drain(5)
    await reading
    assert [row["request_url_path"] for row in rows.rows] == [f"/{index}" for index in range(5)]


def test_a_thread_that_turns_wants_its_processor_all_the_time_however_many_others_do() -> None:
    clock, wanted = SystemClock(), wanted_seconds()
    before, begun = wanted(), clock.monotonic()
    while clock.monotonic() - begun < 0.3:
        pass
    assert wanted() - before > 0.1

"""The queue in front of a real store: it goes on while the store is killed or hangs, and every row arrives once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest

from mixer_py.instruments import Registry, SystemClock
from mixer_py.telemetry.recorder import Recorder
from mixer_py.telemetry.settings import QueueSettings
from mixer_py.telemetry.store import StoreClient
from tests.parts.books import booked, until_written
from tests.store.store_process import PATIENCE, StoreProcess, rows

pytestmark = pytest.mark.chdb


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
async def recorder(running: StoreProcess, registry: Registry) -> AsyncIterator[Recorder]:
    client = StoreClient(running.socket, write_timeout=1.0)
    writing = Recorder(QueueSettings(block_rows=1000, block_interval="10ms"), registry, SystemClock(), client)
    writing.start()
    yield writing
    await writing.drain(0.1)


async def put(recorder: Recorder, turns: range) -> None:
    for turn in turns:
        recorder.put("decisions", rows(100, f"r-{turn}"))
        await asyncio.sleep(0.005)


async def test_rows_arrive_once_though_the_store_is_killed(
    running: StoreProcess, recorder: Recorder, registry: Registry
) -> None:
    for kill in range(3):
        first = 40 * kill
        await put(recorder, range(first, first + 20))
        await running.kill()
        await put(recorder, range(first + 20, first + 40))
        await running.start()
    assert await recorder.drain(PATIENCE) == 0
    assert await running.count("r") == (12_000, 12_000)
    assert booked(registry, "mixer_rows_total", table="decisions", state="written") == 12_000
    assert booked(registry, "mixer_rows_total", state="dropped") == 0
    assert booked(registry, "mixer_store_errors_total", reason="away") > 0


async def test_rows_are_taken_while_the_store_hangs_and_arrive_once_when_it_wakes(
    running: StoreProcess, recorder: Recorder, registry: Registry
) -> None:
    await put(recorder, range(5))
    await until_written(registry, 500)
    running.child.process.send_signal(signal.SIGSTOP)
    await put(recorder, range(5, 50))  # returns, though nobody reads
    async with asyncio.timeout(PATIENCE):  # the block on its way is given up, and sent again with its token
        while not booked(registry, "mixer_store_errors_total", reason="timeout"):
            await asyncio.sleep(0.01)
    assert booked(registry, "mixer_queue_rows", table="decisions") == 4500
    running.child.process.send_signal(signal.SIGCONT)
    assert await recorder.drain(PATIENCE) == 0
    assert await running.count("r") == (5000, 5000)


async def test_a_store_that_hangs_does_not_hold_the_end(
    running: StoreProcess, recorder: Recorder, registry: Registry
) -> None:
    running.child.process.send_signal(signal.SIGSTOP)
    await put(recorder, range(3))
    assert await asyncio.wait_for(recorder.drain(0.2), PATIENCE) == 300
    assert booked(registry, "mixer_rows_total", table="decisions", state="dropped", reason="shutdown") == 300

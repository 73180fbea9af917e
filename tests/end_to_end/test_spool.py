"""Rows that outlive their process: ClickHouse hangs, a worker or the whole mixer is killed, the disk is full."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from envoy.service.accesslog.v3 import als_pb2

from tests.parts.grpc_client import connect
from tests.parts.mixer_process import Mixer, eventually

pytestmark = pytest.mark.chdb

QUEUE = {"rows": 500, "block_rows": 100, "block_interval": "10ms"}


def message(first: int, count: int) -> als_pb2.StreamAccessLogsMessage:
    sent = als_pb2.StreamAccessLogsMessage()
    sent.identifier.node.id = "edge"
    for number in range(first, first + count):
        entry = sent.http_logs.log_entry.add()
        entry.request.request_id = f"r{number}"
        entry.common_properties.start_time.seconds = 1_790_000_000
        entry.response.response_code.value = 200
    return sent


def send(mixer: Mixer, first: int, count: int) -> None:
    """Entries in messages of 20, a stream for each hundred; returns when all were answered."""
    with connect(mixer.address) as client:
        for begin in range(first, first + count, 100):
            client.log(message(number, 20) for number in range(begin, min(begin + 100, first + count), 20))


@contextmanager
def hanging_store(mixer: Mixer) -> Iterator[None]:
    """ClickHouse that answers nothing, for as long as the block takes or until it is replaced."""
    store = mixer.store()
    os.kill(store, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(store, signal.SIGCONT)


def booked(mixer: Mixer, state: str) -> float:
    return mixer.metric("mixer_rows_total", table="requests", state=state)


def all_are_booked(mixer: Mixer, rows: int) -> bool:
    """Whether so many rows were received and each was written or dropped, in one look at the books."""
    books: Counter[str] = Counter()
    for (name, labels), value in mixer.metrics("mixer_").items():
        has = dict(labels)
        if has.get("table") == "requests" and name in {"mixer_rows_total", "mixer_queue_rows", "mixer_spool_rows"}:
            books[has.get("state", "waiting")] += int(value)
    return books["received"] == rows == books["written"] + books["dropped"] and not books["waiting"]


def stored(mixer: Mixer) -> list[int]:
    rows = mixer.rows("SELECT request_id FROM requests")
    return sorted(int(row["request_id"].removeprefix("r")) for row in rows)


def make(make_mixer, mode: str) -> Mixer:
    mixer: Mixer = make_mixer(telemetry={"queue": QUEUE, "spool": {"directory": "spool", "mode": mode}})
    mixer.start()
    return mixer


def test_a_killed_worker_loses_at_most_its_queue_and_says_how_much(make_mixer):
    mixer = make(make_mixer, "overflow")
    send(mixer, 0, 20)
    eventually(lambda: booked(mixer, "written") == 20, "rows before anything fails")
    with hanging_store(mixer):
        send(mixer, 20, 3000)
        eventually(lambda: mixer.metric("mixer_spool_rows", table="requests") >= 2000, "rows on disk")
        os.kill(mixer.worker(), signal.SIGKILL)
        eventually(lambda: mixer.metric("mixer_worker_restarts_total", process="worker") == 1, "another worker")
    eventually(lambda: all_are_booked(mixer, 3020), "every row written or dropped")
    killed = mixer.metric("mixer_rows_total", table="requests", state="dropped", reason="killed")
    assert 0 < killed <= 500
    assert booked(mixer, "received") == 3020
    assert booked(mixer, "dropped") == killed
    rows = stored(mixer)
    assert len(rows) == len(set(rows)), "no row is stored twice"
    on_its_way = QUEUE["block_rows"]  # a block that the killed worker had sent, and that was stored later
    assert 3020 - killed <= len(rows) <= 3020 - killed + on_its_way


def test_always_loses_nothing_that_was_accepted(make_mixer):
    mixer = make(make_mixer, "always")
    with hanging_store(mixer):
        send(mixer, 0, 1000)
        os.kill(mixer.worker(), signal.SIGKILL)
        eventually(lambda: mixer.metric("mixer_worker_restarts_total", process="worker") == 1, "another worker")
    eventually(lambda: all_are_booked(mixer, 1000), "every row written, by the other worker")
    assert stored(mixer) == list(range(1000))


def test_rows_wait_on_disk_while_no_mixer_runs(make_mixer):
    mixer = make(make_mixer, "always")
    with hanging_store(mixer):
        send(mixer, 0, 1000)
        worker = mixer.worker()
        os.kill(mixer.running.pid, signal.SIGKILL)
        os.kill(worker, signal.SIGKILL)  # else it may write some of them before it ends
        mixer.running.wait(60)
    mixer.start()
    eventually(lambda: all_are_booked(mixer, 1000), "every row written, by the next mixer")
    assert stored(mixer) == list(range(1000))


def test_a_folder_that_cannot_be_made_is_told_at_start(make_mixer):
    mixer = make_mixer(telemetry={"spool": {"directory": "limits.yaml/spool"}})
    program = mixer.start(ready=False)
    program.wait(60)
    assert "telemetry.spool.directory" in program.tail()

"""Rows that outlive their process: ClickHouse hangs, a worker or the whole mixer is killed, the disk is full."""

from __future__ import annotations

import os
import signal

import pytest

from tests.parts.mixer_process import Mixer, eventually
from tests.parts.rows_sent import PATIENT, QUEUE, all_are_booked, booked, hanging_store, send, stored

pytestmark = pytest.mark.chdb


def make(make_mixer, mode: str) -> Mixer:
    rows = {"queue": QUEUE, "spool": {"directory": "spool", "mode": mode}}
    mixer: Mixer = make_mixer(telemetry=rows, server=PATIENT)
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

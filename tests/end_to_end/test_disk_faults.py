"""Disks that are full, read-only or broken, under a running mixer: the books balance at every step, and it heals."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest

from tests.parts.disks import FaultyDisk, SmallDisk
from tests.parts.mixer_process import Mixer, eventually
from tests.parts.rows_sent import PATIENT, QUEUE, all_are_booked, balance, booked, books_of, hanging_store, send, stored

pytestmark = [pytest.mark.chdb]

SPOOL = {"directory": "disk/spool", "bytes": "64MiB"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], SmallDisk]]:
    disks: list[SmallDisk] = []

    def make(size: str) -> SmallDisk:
        disks.append(SmallDisk(tmp_path / "disk", size))
        return disks[-1]

    yield make
    for disk in disks:
        disk.close()


def start(make_mixer, mode: str = "overflow", **further) -> Mixer:
    mixer: Mixer = make_mixer(telemetry={"queue": QUEUE, "spool": {**SPOOL, "mode": mode}, **further}, server=PATIENT)
    mixer.start()
    return mixer


def errors(mixer: Mixer, reason: str) -> float:
    return mixer.metric("mixer_store_errors_total", reason=reason)


def written_once(mixer: Mixer) -> None:
    """Every row that is booked as written is stored, and none twice."""
    rows = stored(mixer)
    assert len(rows) == len(set(rows)) == booked(mixer, "written")


@pytest.mark.mounts
def test_a_spool_that_fills_its_disk_drains_without_help(make_mixer, small_disk) -> None:
    """Nothing but sending rows makes room there, and sending has to be noted on the same disk."""
    disk = small_disk("1m")
    mixer = start(make_mixer)
    with hanging_store(mixer):
        send(mixer, 0, 6000)
        eventually(lambda: errors(mixer, "spool") > 0, "a disk that is full")
        eventually(lambda: balance(mixer, 6000), "books that balance while the disk is full")
        books = books_of(mixer)
        assert books["mixer_spool_rows"] > 0
        assert books["queue_full"] == books["dropped"] > 0
        assert disk.free < 64 << 10
    eventually(lambda: all_are_booked(mixer, 6000), "every row written or dropped")
    assert booked(mixer, "dropped") == books["dropped"]
    written_once(mixer)
    with hanging_store(mixer):
        send(mixer, 6000, 1000)
        eventually(lambda: books_of(mixer)["mixer_spool_rows"] > 300, "rows on a disk that has room again")
    eventually(lambda: all_are_booked(mixer, 7000), "every row written or dropped")
    assert booked(mixer, "dropped") == books["dropped"]


@pytest.mark.mounts
def test_rows_wait_in_memory_while_the_spools_disk_is_full_and_go_on_when_there_is_room(make_mixer, small_disk) -> None:
    disk = small_disk("4m")
    mixer = start(make_mixer, "always")
    send(mixer, 0, 100)
    eventually(lambda: all_are_booked(mixer, 100), "rows before anything fails")
    # A store that took rows meanwhile would make the spool remove files, and so make room again.
    with hanging_store(mixer), disk.full():
        sending = Thread(target=send, args=(mixer, 100, 300))  # is answered only when its rows are on disk
        sending.start()
        eventually(lambda: errors(mixer, "spool") > 0, "a disk that is full")
        eventually(lambda: balance(mixer, booked(mixer, "received")), "books that balance while the disk is full")
        assert booked(mixer, "dropped") == 0
    sending.join(60)
    assert not sending.is_alive()
    eventually(lambda: all_are_booked(mixer, 400), "every row written")
    assert stored(mixer) == list(range(400))


@pytest.mark.gcc
@pytest.mark.parametrize("error", [errno.EIO, errno.EROFS], ids=["broken", "read-only"])
def test_a_spool_that_cannot_be_written_costs_what_memory_has_no_room_for(
    make_mixer, tmp_path: Path, error: int
) -> None:
    disk = FaultyDisk(tmp_path)
    mixer = make_mixer(telemetry={"queue": QUEUE, "spool": SPOOL}, server=PATIENT)
    mixer.start(environment=disk.environment)
    with hanging_store(mixer):
        send(mixer, 0, 1000)
        eventually(lambda: mixer.metric("mixer_spool_rows", table="requests") > 300, "rows on disk")
        with disk.failing(tmp_path / "disk", error):
            send(mixer, 1000, 1000)
            eventually(lambda: errors(mixer, "spool") > 0, "a disk that fails")
            eventually(lambda: balance(mixer, 2000), "books that balance while the disk fails")
            dropped = booked(mixer, "dropped")
            assert dropped == books_of(mixer)["queue_full"] > 0
        eventually(lambda: books_of(mixer)["mixer_queue_rows"] <= 350, "rows that go to disk again")
    eventually(lambda: all_are_booked(mixer, 2000), "every row written or dropped")
    assert booked(mixer, "dropped") == dropped
    written_once(mixer)


@pytest.mark.gcc
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
def test_rows_that_chdb_loses_without_a_word_are_written_again(make_mixer, tmp_path: Path, error: int) -> None:
    disk = FaultyDisk(tmp_path)
    mixer = make_mixer(telemetry={"queue": QUEUE, "spool": SPOOL}, server=PATIENT)
    mixer.start(environment=disk.environment)
    send(mixer, 0, 100)
    eventually(lambda: all_are_booked(mixer, 100), "rows before anything fails")
    with disk.failing(tmp_path / "chdb" / "store", error):
        send(mixer, 100, 1000)
        eventually(lambda: errors(mixer, "unverified") + errors(mixer, "insert_failed") > 0, "a write that was lost")
        eventually(lambda: balance(mixer, 1100), "books that balance while the disk fails")
        assert booked(mixer, "dropped") == 0
    eventually(lambda: all_are_booked(mixer, 1100), "every row written")
    assert stored(mixer) == list(range(1100))


@pytest.mark.mounts
def test_below_the_free_space_mark_rows_wait_and_checks_go_on(make_mixer, tmp_path: Path, small_disk) -> None:
    disk = small_disk("64m")
    mixer = start(make_mixer, clickhouse={"url": f"chdb://{disk.path}/chdb"})
    send(mixer, 0, 400)
    eventually(lambda: errors(mixer, "disk_full") > 0, "a disk that is nearly full")
    eventually(lambda: balance(mixer, 400), "books that balance while the disk is nearly full")
    assert (booked(mixer, "written"), booked(mixer, "dropped")) == (0, 0)
    disk.resize("2g")
    eventually(lambda: all_are_booked(mixer, 400), "every row written")
    assert stored(mixer) == list(range(400))

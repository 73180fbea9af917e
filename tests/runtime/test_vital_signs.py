from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mixer_py.instruments import Registry, Table, TableReader
from mixer_py.runtime.vital_signs import Pulse, VitalSigns, process_cpu_seconds, thread_cpu_seconds
from tests.parts.mixer_process import eventually

BURN = """
import sys, time
from pathlib import Path
from mixer_py.instruments import Registry, Table
from mixer_py.runtime.vital_signs import VitalSigns
signs = VitalSigns(Registry(Table(Path(sys.argv[1]))))
signs.beat()
signs.begin()
until = time.thread_time() + float(sys.argv[2])
while time.thread_time() < until:
    pass
{after}
time.sleep(600)
"""


def watch(tmp_path: Path, burn: float, after: str, seconds: float) -> list[str | None]:
    """What a pulse says of a process that evaluates for `burn` seconds of CPU, when it is looked at for a while."""
    table = tmp_path / "t"
    Table(table).close()
    process = subprocess.Popen([sys.executable, "-c", BURN.replace("{after}", after), str(table), str(burn)])
    try:
        reader = TableReader(table)
        pulse = Pulse(process.pid, reader, lambda: 0.3, max_hang=1000)
        seen: list[str | None] = []
        until = time.monotonic() + seconds
        while time.monotonic() < until and "stalled" not in seen:
            seen.append(pulse.examine(time.monotonic()))
            time.sleep(0.02)
        reader.close()
        return seen
    finally:
        process.kill()
        process.wait()


def test_one_evaluation_that_takes_too_much_cpu_is_a_stall(tmp_path: Path) -> None:
    assert "stalled" in watch(tmp_path, burn=600, after="", seconds=60)


def test_an_evaluation_that_sleeps_takes_no_cpu_and_is_none(tmp_path: Path) -> None:
    assert set(watch(tmp_path, burn=0.01, after="", seconds=2)) == {None}


def test_work_outside_of_evaluations_is_none(tmp_path: Path) -> None:
    after = "signs.end()\nuntil = time.thread_time() + 1.0\nwhile time.thread_time() < until: pass"
    assert set(watch(tmp_path, burn=0.01, after=after, seconds=2)) == {None}


def test_many_short_evaluations_are_none(tmp_path: Path) -> None:
    after = "until = time.thread_time() + 1.0\nwhile time.thread_time() < until: signs.end(); signs.begin()"
    assert set(watch(tmp_path, burn=0.01, after=after, seconds=2)) == {None}


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[tuple[VitalSigns, Pulse]]:
    """What this process shows, and what is seen of it; its loop may stand still for ten seconds."""
    with closing(Table(tmp_path / "t")) as table, closing(TableReader(tmp_path / "t")) as reader:
        yield VitalSigns(Registry(table)), Pulse(os.getpid(), reader, lambda: 1.0, 10.0)


def looked_at(pulse: Pulse, begin: int, end: int) -> set[str | None]:
    """What it says at one look a second."""
    return {pulse.examine(now) for now in range(begin, end + 1)}


def work() -> None:
    """Takes CPU, as much as the kernel takes note of."""
    before = process_cpu_seconds(os.getpid())
    while process_cpu_seconds(os.getpid()) == before:
        pass


def test_a_loop_that_stands_still_is_hung_unless_it_loads(shown: tuple[VitalSigns, Pulse]) -> None:
    signs, pulse = shown
    signs.beat()
    assert looked_at(pulse, 0, 9) == {None}
    signs.beat()
    assert looked_at(pulse, 10, 20) == {None}
    assert pulse.examine(21) == "hung"
    signs.loading(now=True)
    for now in range(22, 51):
        work()
        assert pulse.examine(now) is None
    signs.loading(now=False)
    assert looked_at(pulse, 51, 60) == {None}
    assert pulse.examine(61) == "hung"


def test_a_loop_that_was_paused_together_with_who_looks_is_not_hung(shown: tuple[VitalSigns, Pulse]) -> None:
    signs, pulse = shown
    signs.beat()
    assert pulse.examine(0) is None
    assert pulse.examine(3600) is None
    assert looked_at(pulse, 3601, 3609) == {None}
    assert pulse.examine(3610) == "hung"


@pytest.mark.parametrize("stage", ["it starts", "it loads"])
def test_a_child_that_starts_or_loads_is_hung_when_it_takes_no_cpu_at_all(tmp_path: Path, stage: str) -> None:
    with closing(Table(tmp_path / "t")) as table, closing(TableReader(tmp_path / "t")) as reader:
        signs = VitalSigns(Registry(table))
        if stage == "it loads":
            signs.beat()
            signs.loading(now=True)
        process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            pulse = Pulse(process.pid, reader, lambda: 1.0, 10.0)
            for now in range(20):
                before = process_cpu_seconds(process.pid)
                eventually(lambda before=before: process_cpu_seconds(process.pid) > before, "work")
                assert pulse.examine(now) is None
            process.send_signal(signal.SIGSTOP)
            state = Path(f"/proc/{process.pid}/stat")
            eventually(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "a process that is stopped")
            assert looked_at(pulse, 20, 30) == {None}
            assert pulse.examine(31) == "hung"
        finally:
            process.kill()
            process.wait()


def test_cpu_of_the_main_thread_is_what_the_kernel_says() -> None:
    before = thread_cpu_seconds(os.getpid())
    until = time.thread_time() + 0.2
    while time.thread_time() < until:
        pass
    assert thread_cpu_seconds(os.getpid()) - before >= 0.15

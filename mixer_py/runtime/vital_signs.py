"""Signs of life in shared memory: a child shows them, the supervisor reads them.

A stall is one evaluation that takes more CPU than `policy.max_stall`: a counter that is odd while the engine
evaluates tells the supervisor that the same evaluation still runs, and the kernel tells how much CPU the thread of the
child's loop took meanwhile. Loading, or a slow machine, is no stall. Showing costs one addition. A loop hangs when it
stands still while the supervisor does not: what was paused together (a container, a machine) goes on together. While
a child starts or loads its loop may stand still as long as it takes CPU.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mixer_py.errors import ProcessError
from mixer_py.instruments import Gauge, Registry, SeriesDeclaration, TableReader

HEARTBEAT = "mixer_heartbeat"
EVALUATIONS = "mixer_evaluations"
LOADING = "mixer_loading"
THREAD = "mixer_loop_thread"
PRIVATE = frozenset({HEARTBEAT, EVALUATIONS, LOADING, THREAD})
"""Names that are between the processes and not for `/metrics`."""

_HEARTBEAT_INTERVAL = 0.2
_LONGEST_LOOK = 1.0
"""Seconds between two looks that count at most; in a longer pause the supervisor did not run either."""
_NANOSECONDS = 1e9


class VitalSigns:
    """What a child shows of itself. It is the policy room's `EvaluationWatch`."""

    def __init__(self, registry: Registry) -> None:
        self._heartbeat = registry.gauge(HEARTBEAT, "Grows while the event loop turns.").labels()
        self._loading = registry.gauge(LOADING, "1 while a snapshot is built.").labels()
        evaluations: Gauge = registry.gauge(EVALUATIONS, "Grows by two an evaluation; odd during one.").labels()
        self._evaluations = evaluations
        registry.gauge(THREAD, "Id of the thread of the event loop.").labels().set(float(threading.get_native_id()))

    def beat(self) -> None:
        """The event loop has come round."""
        self._heartbeat.set(self._heartbeat.value + 1)

    async def beat_for_ever(self) -> None:
        """Beats while the loop turns, until it is cancelled."""
        while True:
            self.beat()
            await asyncio.sleep(_HEARTBEAT_INTERVAL)

    def loading(self, *, now: bool) -> None:
        """A snapshot is being built from now on, or no longer."""
        self._loading.set(float(now))

    def begin(self) -> None:
        """An evaluation starts."""
        self._evaluations.set(self._evaluations.value + 1)

    def end(self) -> None:
        """It ended, well or not."""
        self._evaluations.set(self._evaluations.value + 1)


@dataclass(slots=True)
class _Seen:
    value: float
    since: float


@dataclass(slots=True)
class _StandingStill:
    beat: float | None = None
    cpu: float | None = None
    looked: float = 0.0
    seconds: float = 0.0

    def look(self, beat: float, cpu: float | None, now: float) -> None:
        """`cpu` is given where it counts as well as the beat."""
        same = beat == self.beat and (cpu is None or cpu == self.cpu)
        self.seconds = self.seconds + min(now - self.looked, _LONGEST_LOOK) if same else 0.0
        self.beat, self.cpu, self.looked = beat, cpu, now


class Pulse:
    """Reads a child's vital signs and says what is wrong with it."""

    def __init__(self, pid: int, reader: TableReader, max_stall: Callable[[], float], max_hang: float) -> None:
        """Watches one child.

        Args:
            pid: its process id.
            reader: its table.
            max_stall: gives the seconds of CPU that one evaluation may take, by the settings in force.
            max_hang: seconds that the loop may stand still while somebody looks.
        """
        self._pid = pid
        self._reader = reader
        self._max_stall = max_stall
        self._max_hang = max_hang
        self._series: dict[str, SeriesDeclaration | None] = dict.fromkeys(PRIVATE)
        self._still = _StandingStill()
        self._evaluation: _Seen | None = None

    def examine(self, now: float) -> str | None:
        """Looks once.

        Args:
            now: monotonic seconds.

        Returns:
            `stalled` when one evaluation took too much CPU, `hung` when the loop stands still, else None.
        """
        if self._evaluation_stalled():
            return "stalled"
        beat = self._value(HEARTBEAT)
        at_work = not beat or self._value(
            LOADING
        )  # it starts, or loads: then its loop stands still as long as it takes
        self._still.look(beat, process_cpu_seconds(self._pid) if at_work else None, now)
        return "hung" if self._still.seconds > self._max_hang else None

    def _evaluation_stalled(self) -> bool:
        evaluation = self._value(EVALUATIONS)
        if evaluation % 2 == 0:
            self._evaluation = None
            return False
        cpu = thread_cpu_seconds(self._pid, int(self._value(THREAD)))
        if self._evaluation is None or self._evaluation.value != evaluation:
            self._evaluation = _Seen(evaluation, cpu)
        return cpu - self._evaluation.since > self._max_stall()

    def _value(self, name: str) -> float:
        series = self._series[name]
        if series is None:
            series = self._series[name] = self._reader.find(name)
        return 0.0 if series is None else self._reader.value(series)


def wanted_seconds() -> Callable[[], float]:
    """Tells for how long the calling thread has run, or was ready to run, until now (proc(5): schedstat).

    On a kernel that keeps no scheduler statistics: for how long it has run.
    """
    statistics = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")

    def read() -> float:
        running, ready, _ = statistics.read_text(encoding="ascii").split()
        return (int(running) + int(ready)) / _NANOSECONDS

    return read if statistics.exists() else time.thread_time


def process_cpu_seconds(pid: int) -> float:
    """CPU that the threads of a process that still live have taken.

    Raises:
        ProcessError: there is no such process.
    """
    try:
        threads = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError as error:
        raise ProcessError(f"no process {pid}: {error}") from error
    taken = 0.0
    for thread in threads:
        with contextlib.suppress(ProcessError):  # it has just ended
            taken += thread_cpu_seconds(pid, thread)
    return taken


def thread_cpu_seconds(pid: int, thread: int = 0) -> float:
    """CPU that a thread of a process has taken (proc(5): schedstat, else stat).

    Args:
        pid: of the process.
        thread: of the thread; 0 for the main one.

    Raises:
        ProcessError: there is no such process.
    """
    task = Path(f"/proc/{pid}/task/{thread or pid}")
    try:
        return int(task.joinpath("schedstat").read_text(encoding="ascii").split()[0]) / _NANOSECONDS
    except FileNotFoundError:
        pass  # the process is gone, or the kernel keeps no scheduler statistics: then stat has it in ticks
    try:
        fields = task.joinpath("stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError as error:
        raise ProcessError(f"no process {pid}: {error}") from error
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

"""A process that is given less than it needs: file descriptors, memory, processor time, processes."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.faults.fault import Fault, State, While, lasting
from tests.faults.processes import KILLED, ONE, pid_of, stopped
from tests.faults.scene import Scene

_ROWS_WAIT = "no call notices; rows wait, and are written once"


def limit_memory(pid: int, more: int = 1 << 20) -> tuple[int, int]:
    """Lets a process take so many bytes of address space more, and no others; its limits before."""
    before = resource.prlimit(pid, resource.RLIMIT_AS)
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    resource.prlimit(pid, resource.RLIMIT_AS, (pages * resource.getpagesize() + more, before[1]))
    return before


def _no_descriptors(process: str) -> State:
    """It may open no more files."""

    @contextmanager
    def state(scene: Scene) -> Iterator[None]:
        pid = pid_of(scene, process) if process != "supervisor" else scene.mixer.running.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, before[1]))
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_NOFILE, before)

    return state


@contextmanager
def _crowded(scene: Scene) -> Iterator[None]:
    """The worker may open no more files, and others try to connect."""
    with _no_descriptors("worker")(scene), ExitStack() as stack:
        for _ in range(30):
            with suppress(OSError):
                stack.enter_context(socket.create_connection(("127.0.0.1", scene.mixer.grpc), timeout=1))
        yield


def _no_memory(process: str) -> State:
    """It may take no more address space, while the worker's rows pile up because the store stands still."""

    @contextmanager
    def state(scene: Scene) -> Iterator[None]:
        pid = pid_of(scene, process)
        before = limit_memory(pid)
        try:
            if process == "worker":
                with stopped("store")(scene):
                    yield
            else:
                yield
        finally:
            with suppress(ProcessLookupError):  # it may have ended, and been replaced
                resource.prlimit(pid, resource.RLIMIT_AS, before)

    return state


def _until_ready(state: State, seconds: float) -> While:
    def inject(scene: Scene) -> None:
        lasting(state, seconds)(scene)
        scene.eventually(scene.ready, "readiness")

    return While(state, inject)


@contextmanager
def _busy_machine(scene: Scene) -> Iterator[None]:
    """Four processes that want all the processor time there is."""
    burning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        yield
    finally:
        for one in burning:
            one.kill()
            one.wait(60)


FAULTS = (
    Fault(
        "no file descriptors left",
        ONE,
        "calls on open connections go on; others connect when there are some again",
        lasting(_crowded),
        5,
        3,
    ),
    Fault("the store has no file descriptors left", ONE, _ROWS_WAIT, _until_ready(_no_descriptors("store"), 3.0)),
    Fault(
        "the supervisor has no file descriptors left", ONE, "no call notices", lasting(_no_descriptors("supervisor"))
    ),
    Fault(
        "no memory left",
        ONE,
        "calls that need some fail, or the worker is replaced",
        _until_ready(_no_memory("worker"), 3.0),
        None,
        5,
        KILLED,
    ),
    Fault("the store has no memory left", ONE, _ROWS_WAIT, _until_ready(_no_memory("store"), 3.0)),
    Fault("a busy machine", ONE, "calls are slow, and none fails", lasting(_busy_machine, 4.0)),
)

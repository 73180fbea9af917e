"""A process that is given less than it needs: file descriptors, memory, processor time, processes."""

from __future__ import annotations

import resource
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from tests.faults.fault import Fault
from tests.faults.processes import KILLED, ONE, STORE, WORKER
from tests.faults.scene import Scene, signal_process


def _no_descriptors(scene: Scene) -> None:
    """The worker may open no more files; others try to connect."""
    worker = scene.mixer.children(WORKER)[0]
    before = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    used = len(list(Path(f"/proc/{worker}/fd").iterdir()))
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (used, before[1]))
    with ExitStack() as stack:
        for _ in range(30):
            with suppress(OSError):
                stack.enter_context(socket.create_connection(("127.0.0.1", scene.mixer.grpc), timeout=1))
        time.sleep(2.0)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, before)


def _no_memory(scene: Scene) -> None:
    """The worker may take no more address space, while the store is away and rows pile up; then it may."""
    worker = scene.mixer.children(WORKER)[0]
    before = resource.prlimit(worker, resource.RLIMIT_AS)
    pages = int(Path(f"/proc/{worker}/statm").read_text().split()[0])
    resource.prlimit(worker, resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 20), before[1]))
    store = scene.mixer.children(STORE)[0]
    signal_process(store, signal.SIGSTOP)
    time.sleep(3.0)
    signal_process(store, signal.SIGCONT)
    with suppress(ProcessLookupError):  # it may have ended, and been replaced
        resource.prlimit(worker, resource.RLIMIT_AS, before)
    scene.eventually(scene.ready, "readiness")


def _busy_machine(scene: Scene) -> None:
    """Four processes that want all the processor time there is, at the lowest niceness that everybody may ask for."""
    burning = [
        subprocess.Popen([sys.executable, "-c", "import time; end = time.time() + 4\nwhile time.time() < end: pass"])
        for _ in range(4)
    ]
    for one in burning:
        one.wait(60)


FAULTS = (
    Fault(
        "no file descriptors left",
        ONE,
        "calls on open connections go on; others connect when there are some again",
        _no_descriptors,
        5,
        3,
    ),
    Fault("no memory left", ONE, "calls that need some fail, or the worker is replaced", _no_memory, None, 5, KILLED),
    Fault("a busy machine", ONE, "calls are slow, and none fails", _busy_machine),
)

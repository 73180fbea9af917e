"""Processes that are killed, stopped and started again while they do their work; at other stages: `stages.py`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.fault import Fault, State, While, lasting
from tests.faults.scene import Scene, signal_process
from tests.parts.mixer_process import MIXER, VALKEY, is_running

ONE, ALWAYS, TWO = "one worker, rows in chDB", "one worker, every row spooled first", "two workers, an embedded Valkey"
WORKER = "mixer_py.runtime.worker"
STORE = "mixer_py.runtime.store"
_MODULES = {"worker": WORKER, "store": STORE, "shadow": "mixer_py.runtime.shadow", "valkey": VALKEY}
KILLED = frozenset({"killed"})
HELD = 40
"""Requests that may fail with one of two workers: those that it held, and those that Envoy had given to it."""
ROWS_WAIT = "no call notices; rows wait, and are written once"
AFTER = "calls fail until another listens, seconds later"


def pids_of(scene: Scene, process: str) -> list[int]:
    """Process ids of those that run: `worker`, `store`, `valkey` or `shadow`."""
    return scene.mixer.children(_MODULES[process])


def pid_of(scene: Scene, process: str) -> int:
    """The process id of the first, once there is one."""
    scene.eventually(lambda: pids_of(scene, process), f"a {process}")
    return pids_of(scene, process)[0]


def signalled(process: str, number: signal.Signals) -> State:
    """It has just been sent this; when it was stopped it goes on in the end."""

    @contextmanager
    def state(scene: Scene) -> Iterator[None]:
        pid = pid_of(scene, process)
        signal_process(pid, number)
        try:
            yield
        finally:
            if number is signal.SIGSTOP:
                signal_process(pid, signal.SIGCONT)

    return state


def stopped(process: str) -> State:
    """It stands still, and goes on."""
    return signalled(process, signal.SIGSTOP)


def replaced(process: str, by: signal.Signals) -> While:
    """It is killed, or stopped for good, and another takes its place."""

    def inject(scene: Scene) -> None:
        before = scene.restarts(process)
        signal_process(pid_of(scene, process), by)
        scene.eventually(lambda: scene.restarts(process) > before and scene.ready(), f"another {process}")

    return While(signalled(process, by), inject)


def told_to_end(process: str) -> While:
    """Somebody else sends it SIGTERM, and another takes its place."""

    def inject(scene: Scene) -> None:
        before = pid_of(scene, process)
        signal_process(before, signal.SIGTERM)
        scene.eventually(lambda: not is_running(before), f"the end of the {process}")
        scene.eventually(lambda: pids_of(scene, process) and scene.ready(), f"another {process}")

    return While(signalled(process, signal.SIGTERM), inject)


@contextmanager
def supervisor_stopped(scene: Scene) -> Iterator[None]:
    """It stands still for a second and a half at most: what it is told meanwhile it does then."""
    supervisor = scene.mixer.running
    supervisor.signal(signal.SIGSTOP)
    going_on = threading.Timer(1.5, signal_process, (supervisor.pid, signal.SIGCONT))
    going_on.start()
    try:
        yield
    finally:
        going_on.cancel()
        going_on.join()
        signal_process(supervisor.pid, signal.SIGCONT)


def kill_supervisor(scene: Scene) -> None:
    """Nobody is left to end its children; it is started again."""
    children = [*scene.mixer.children(WORKER), *scene.mixer.children(STORE)]
    signal_process(scene.mixer.running.pid, signal.SIGKILL)
    scene.eventually(lambda: not any(map(is_running, children)), "the end of every child")
    scene.mixer.start()


def _restart(scene: Scene) -> None:
    scene.mixer.running.signal(signal.SIGTERM)
    code = scene.mixer.running.wait(180)
    if code:
        raise AssertionError(f"it ended with {code}")
    scene.mixer.start()


@contextmanager
def _envoy_killed(scene: Scene) -> Iterator[None]:
    assert scene.envoy.program is not None
    os.killpg(scene.envoy.program.pid, signal.SIGKILL)
    scene.envoy.program.wait(30)
    try:
        yield
    finally:
        scene.start_envoy()


@contextmanager
def _envoy_stopped(scene: Scene) -> Iterator[None]:
    assert scene.envoy.program is not None
    scene.envoy.program.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        scene.envoy.program.signal(signal.SIGCONT)


def _restart_envoy(scene: Scene) -> None:
    """As an orchestrator does it: SIGTERM, and another."""
    assert scene.envoy.program is not None
    scene.envoy.program.signal(signal.SIGTERM)
    scene.envoy.program.wait(30)
    scene.start_envoy()


def _second_mixer(scene: Scene) -> None:
    admin, socket = f"127.0.0.1:{scene.ports.take()}", scene.folder / "second.sock"
    own = ("--set", f"server.admin={admin}", "--set", f"server.socket={socket}")
    second = scene.programs.start("second", (*MIXER, "serve", "-c", scene.mixer.file, *own))
    if second.wait(180) != 1:
        raise AssertionError("a second mixer was let onto the same port")


def _worker_faults() -> Iterator[Fault]:
    killed, stop = signal.SIGKILL, signal.SIGSTOP
    yield Fault("worker killed", ONE, AFTER, replaced("worker", killed), None, 5, KILLED)
    yield Fault(
        "worker stopped for a second",
        ONE,
        "calls wait, and none fails",
        lasting(stopped("worker"), 1.0),
        ending=KILLED,
    )
    yield Fault(
        "worker hung",
        ONE,
        "it is replaced after 10 s; until then calls end by Envoy's timeout",
        replaced("worker", stop),
        None,
        5,
        KILLED,
    )
    yield Fault(
        "worker told to end by somebody else",
        ONE,
        "it drains; calls fail until another listens, seconds later",
        told_to_end("worker"),
        None,
        5,
    )
    yield Fault(
        "one of two workers killed",
        TWO,
        "calls that it held fail; the other goes on",
        replaced("worker", killed),
        HELD,
        2,
        KILLED,
    )
    yield Fault(
        "worker killed, every row spooled first",
        ALWAYS,
        "rows of the last milliseconds may be lost, no others",
        replaced("worker", killed),
        None,
        5,
        KILLED,
    )


def _store_faults() -> Iterator[Fault]:
    yield Fault("store killed", ONE, ROWS_WAIT, replaced("store", signal.SIGKILL))
    yield Fault("store stopped for four seconds", ONE, "no call notices; rows wait", lasting(stopped("store"), 4.0))
    yield Fault(
        "store hung", ONE, "it is replaced after 10 s; no call notices, rows wait", replaced("store", signal.SIGSTOP)
    )


def _supervisor_faults() -> Iterator[Fault]:
    again = "every child ends; after a start all is as before"
    yield Fault("supervisor stopped for a second and a half", ONE, "no call notices", lasting(supervisor_stopped))
    yield Fault("supervisor killed", ONE, again, kill_supervisor, None, 3, KILLED, unbooked=True)
    yield Fault(
        "supervisor killed, every row spooled first", ALWAYS, "no row that was accepted is lost", kill_supervisor,
        None, 3,
    )  # fmt: skip
    yield Fault("restart (SIGTERM) under load", ONE, "exit 0; no row that was accepted is lost", _restart, None, 3)


def _other_faults() -> Iterator[Fault]:
    unminded = "mixer does not mind"
    yield Fault(
        "Envoy stopped for three seconds", ONE, "its clients wait; mixer does not mind", lasting(_envoy_stopped, 3.0)
    )
    yield Fault("Envoy killed and started", ONE, unminded, lasting(_envoy_killed, 0.0), None, 3)
    yield Fault("Envoy told to end and started", ONE, unminded, _restart_envoy, None, 3)
    yield Fault("a second mixer on the same port", ONE, "it is refused, and the first goes on", _second_mixer)
    anew = "limits begin anew; calls follow rate_limit.on_error until it is back"
    yield Fault("embedded Valkey killed", TWO, anew, replaced("valkey", signal.SIGKILL))
    yield Fault("embedded Valkey hung", TWO, "the same, and it is replaced", replaced("valkey", signal.SIGSTOP))


FAULTS = (*_worker_faults(), *_store_faults(), *_supervisor_faults(), *_other_faults())

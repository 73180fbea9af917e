"""Processes that are killed, stopped and started again, at each stage of their lives."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.fault import Fault, Inject, Lasting, State, lasting
from tests.faults.scene import Scene, signal_process
from tests.parts.mixer_process import MIXER, VALKEY, is_running

ONE, ALWAYS, TWO = "one worker, rows in chDB", "one worker, every row spooled first", "two workers, an embedded Valkey"
WORKER = "mixer_py.runtime.worker"
STORE = "mixer_py.runtime.store"
_MODULES = {"worker": WORKER, "store": STORE, "shadow": "mixer_py.runtime.shadow", "valkey": VALKEY}
KILLED = frozenset({"killed"})
HELD = 40
"""Requests that may fail with one of two workers: those that it held, and those that Envoy had given to it."""


def pids_of(scene: Scene, process: str) -> list[int]:
    """Process ids of those that run: `worker`, `store`, `valkey` or `shadow`."""
    return scene.mixer.children(_MODULES[process])


def pid_of(scene: Scene, process: str) -> int:
    """The process id of the first, once there is one."""
    scene.eventually(lambda: pids_of(scene, process), f"a {process}")
    return pids_of(scene, process)[0]


def replaced(process: str, by: signal.Signals) -> Inject:
    """It is killed, or stopped for good, and another takes its place."""

    def inject(scene: Scene) -> None:
        before = scene.restarts(process)
        signal_process(pid_of(scene, process), by)
        scene.eventually(lambda: scene.restarts(process) > before and scene.ready(), f"another {process}")

    return inject


def _killed_twice(process: str) -> Inject:
    """It is killed, and the next while it starts."""

    def inject(scene: Scene) -> None:
        def others() -> list[int]:
            return [one for one in pids_of(scene, process) if one != first]

        first = pid_of(scene, process)
        signal_process(first, signal.SIGKILL)
        scene.eventually(others, f"another {process}")
        signal_process(others()[0], signal.SIGKILL)
        time.sleep(0.5)
        scene.eventually(scene.ready, f"a third {process}")

    return inject


def stopped(process: str) -> State:
    """It stands still, and goes on."""

    @contextmanager
    def state(scene: Scene) -> Iterator[None]:
        pid = pid_of(scene, process)
        signal_process(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            signal_process(pid, signal.SIGCONT)

    return state


def killed(process: str) -> State:
    """It has just been killed."""

    @contextmanager
    def state(scene: Scene) -> Iterator[None]:
        signal_process(pid_of(scene, process), signal.SIGKILL)
        yield

    return state


def told_to_end(process: str) -> Inject:
    """Somebody else sends it SIGTERM, and another takes its place."""

    def inject(scene: Scene) -> None:
        before = pid_of(scene, process)
        signal_process(before, signal.SIGTERM)
        scene.eventually(lambda: not is_running(before), f"the end of the {process}")
        scene.eventually(lambda: pids_of(scene, process) and scene.ready(), f"another {process}")

    return inject


def _kill_worker_in_reload(scene: Scene) -> None:
    worker = scene.mixer.children(WORKER)[0]
    scene.mixer.write("policies/more.rego", f"package more\n\n# {time.monotonic()}\nx := 1\n")
    scene.mixer.running.signal(signal.SIGHUP)
    signal_process(worker, signal.SIGKILL)
    scene.eventually(lambda: scene.mixer.children(WORKER) not in ([], [worker]) and scene.ready(), "another worker")


def _stop_supervisor_for_a_moment(scene: Scene) -> None:
    scene.mixer.running.signal(signal.SIGSTOP)
    time.sleep(3.0)
    scene.mixer.running.signal(signal.SIGCONT)


def _kill_supervisor(scene: Scene) -> None:
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


def _kill_worker_while_draining(scene: Scene) -> None:
    worker = scene.mixer.children(WORKER)[0]
    scene.mixer.running.signal(signal.SIGTERM)
    signal_process(worker, signal.SIGKILL)
    scene.mixer.running.wait(180)
    scene.mixer.start()


def _kill_envoy(scene: Scene) -> None:
    assert scene.envoy.program is not None
    os.killpg(scene.envoy.program.pid, signal.SIGKILL)
    scene.envoy.program.wait(30)
    scene.start_envoy()


def _stop_envoy(scene: Scene) -> None:
    assert scene.envoy.program is not None
    scene.envoy.program.signal(signal.SIGSTOP)
    time.sleep(3.0)
    scene.envoy.program.signal(signal.SIGCONT)


def _second_mixer(scene: Scene) -> None:
    admin, socket = f"127.0.0.1:{scene.ports.take()}", scene.folder / "second.sock"
    own = ("--set", f"server.admin={admin}", "--set", f"server.socket={socket}")
    second = scene.programs.start("second", (*MIXER, "serve", "-c", scene.mixer.file, *own))
    if second.wait(180) != 1:
        raise AssertionError("a second mixer was let onto the same port")


FAULTS = (
    Fault(
        "worker killed",
        ONE,
        "calls fail until another listens, seconds later",
        replaced("worker", signal.SIGKILL),
        None,
        5,
        KILLED,
    ),
    Fault(
        "worker killed, and the next while it starts",
        ONE,
        "the same, for both",
        _killed_twice("worker"),
        None,
        5,
        KILLED,
    ),
    Fault(
        "worker killed during a reload",
        ONE,
        "the same; the reload is made up for",
        _kill_worker_in_reload,
        None,
        5,
        KILLED,
    ),
    Fault("worker stopped for a second", ONE, "calls wait, and none fails", lasting(stopped("worker"), 1.0)),
    Fault(
        "worker hung",
        ONE,
        "it is replaced after 10 s; until then calls end by Envoy's timeout",
        replaced("worker", signal.SIGSTOP),
        None,
        5,
        KILLED,
    ),
    Fault(
        "worker told to end by somebody else",
        ONE,
        "it drains; calls fail until another listens, seconds later",
        told_to_end("worker"),
        None,
        5,
    ),
    Fault(
        "one of two workers killed",
        TWO,
        "calls that it held fail; the other goes on",
        replaced("worker", signal.SIGKILL),
        HELD,
        2,
        KILLED,
    ),
    Fault(
        "store killed",
        ONE,
        "no call notices; rows wait, and are written once",
        replaced("store", signal.SIGKILL),
    ),
    Fault("store killed, and the next while it starts", ONE, "the same", _killed_twice("store")),
    Fault("store stopped for four seconds", ONE, "no call notices; rows wait", lasting(stopped("store"), 4.0)),
    Fault(
        "store hung", ONE, "it is replaced after 10 s; no call notices, rows wait", replaced("store", signal.SIGSTOP)
    ),
    Fault("supervisor stopped for three seconds", ONE, "no call notices", _stop_supervisor_for_a_moment),
    Fault(
        "supervisor killed", ONE, "every child ends; after a start all is as before", _kill_supervisor, None, 3, KILLED
    ),
    Fault(
        "supervisor killed, every row spooled first",
        ALWAYS,
        "no row that was accepted is lost",
        _kill_supervisor,
        None,
        3,
    ),
    Fault(
        "worker killed, every row spooled first",
        ALWAYS,
        "rows of the last milliseconds may be lost, no others",
        replaced("worker", signal.SIGKILL),
        None,
        5,
        KILLED,
    ),
    Fault("restart (SIGTERM) under load", ONE, "exit 0; no row that was accepted is lost", _restart, None, 3),
    Fault(
        "worker killed while it drains",
        ONE,
        "mixer ends all the same; what was lost is counted",
        _kill_worker_while_draining,
        None,
        3,
        KILLED,
    ),
    Fault("Envoy stopped for three seconds", ONE, "its clients wait; mixer does not mind", _stop_envoy),
    Fault("Envoy killed and started", ONE, "mixer does not mind", _kill_envoy, None, 3),
    Fault("a second mixer on the same port", ONE, "it is refused, and the first goes on", _second_mixer),
    Fault(
        "embedded Valkey killed",
        TWO,
        "limits begin anew; calls follow rate_limit.on_error until it is back",
        replaced("valkey", signal.SIGKILL),
    ),
    Fault("embedded Valkey hung", TWO, "the same, and it is replaced", replaced("valkey", signal.SIGSTOP)),
)

LASTING = (
    Lasting("the store hung", ONE, stopped("store"), frozenset({"killed", "flush_timeout"})),
    Lasting("the store killed", ONE, killed("store")),
    Lasting("the worker hung", ONE, stopped("worker"), KILLED),
    Lasting("the worker killed", ONE, killed("worker"), KILLED),
    Lasting("the embedded Valkey hung", TWO, stopped("valkey")),
    Lasting("the embedded Valkey killed", TWO, killed("valkey")),
)

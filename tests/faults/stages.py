"""Processes that are killed, stopped or told to end at other stages of their lives: starting, reloading, draining.

What happens to them while they do their work is in `processes.py`, while a worker takes over in `takeovers.py`.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.fault import Fault, Inject, While, lasting, within
from tests.faults.processes import (
    AFTER,
    KILLED,
    ONE,
    ROWS_WAIT,
    STORE,
    TWO,
    WORKER,
    kill_supervisor,
    pid_of,
    pids_of,
    replaced,
    stopped,
    supervisor_stopped,
    told_to_end,
)
from tests.faults.scene import Scene, signal_process
from tests.parts.mixer_process import is_running

INSIDE = "a worker inside an Envoy"
CANDIDATE = "a candidate beside"
_ENDS = "mixer ends all the same; what was lost is counted"


def _next_of(scene: Scene, process: str) -> int:
    """One is killed; the process id of the next, as soon as it has been started."""

    def others() -> list[int]:
        return [one for one in pids_of(scene, process) if one != first]

    first = pid_of(scene, process)
    signal_process(first, signal.SIGKILL)
    scene.eventually(others, f"another {process}")
    return others()[0]


def in_its_start(process: str, number: signal.Signals, seconds: float = 0.0) -> While:
    """It is killed, and the next is sent this as soon as it has been started.

    One that was stopped may go on after so many seconds; with none it is stopped for good.
    """

    @contextmanager
    def state(scene: Scene) -> Iterator[None]:
        second = _next_of(scene, process)
        signal_process(second, number)
        try:
            yield
        finally:
            signal_process(second, signal.SIGCONT)

    def inject(scene: Scene) -> None:
        second = _next_of(scene, process)
        signal_process(second, number)
        if seconds:
            time.sleep(seconds)
            signal_process(second, signal.SIGCONT)
        else:
            scene.eventually(lambda: not is_running(second), f"the end of the {process} that was stopped")
        scene.eventually(lambda: pids_of(scene, process) and scene.ready(), f"a {process} that is ready")

    return While(state, inject)


def change(scene: Scene, rules: int = 0) -> None:
    """Writes a policy with so many rules, which no check asks for."""
    text = "\n".join(f"x{number} := {number}" for number in range(rules))
    scene.mixer.write("policies/more.rego", f"package more\n\n# {time.monotonic()}\n{text}\ny := 1\n")


@contextmanager
def reloading(scene: Scene) -> Iterator[None]:
    """A change of policies is being read and built."""
    change(scene, 300)
    scene.mixer.running.signal(signal.SIGHUP)
    try:
        yield
    finally:
        (scene.folder / "policies" / "more.rego").unlink()


def in_a_reload(act: Inject) -> Inject:
    """The same while a change of policies is being read and built."""
    return within(reloading, act)


def _start_until_a_child(scene: Scene) -> None:
    """Mixer ends and is started, until there is a worker or a store."""
    scene.mixer.running.signal(signal.SIGTERM)
    scene.mixer.running.wait(180)
    scene.mixer.start(ready=False)
    scene.eventually(lambda: scene.mixer.children(WORKER) or scene.mixer.children(STORE), "a child")


def _kill_supervisor_in_its_start(scene: Scene) -> None:
    _start_until_a_child(scene)
    kill_supervisor(scene)


def _stop_supervisor_in_its_start(scene: Scene) -> None:
    _start_until_a_child(scene)
    lasting(supervisor_stopped, 1.5, _is_ready)(scene)


def _stop_supervisor_while_draining(scene: Scene) -> None:
    scene.mixer.running.signal(signal.SIGTERM)
    time.sleep(0.1)
    lasting(supervisor_stopped, 1.5, _start_once_ended)(scene)


def _kill_supervisor_while_draining(scene: Scene) -> None:
    scene.mixer.running.signal(signal.SIGTERM)
    time.sleep(0.1)
    kill_supervisor(scene)


def _terminated_in_its_start(scene: Scene) -> None:
    _start_until_a_child(scene)
    scene.mixer.running.signal(signal.SIGTERM)
    _start_once_ended(scene)


def _terminated_again_and_again(scene: Scene) -> None:
    """Somebody is impatient."""
    for _ in range(6):
        scene.mixer.running.signal(signal.SIGTERM)
        time.sleep(0.1)
    _start_once_ended(scene)


def _start_once_ended(scene: Scene) -> None:
    """Waits for its end, which is to be a good one."""
    if code := scene.mixer.running.wait(180):
        scene.complaints.append(f"it ended with {code}")
    scene.mixer.start()


@contextmanager
def _worker_dies_while_supervisor_stands(scene: Scene) -> Iterator[None]:
    worker = scene.mixer.worker()
    with supervisor_stopped(scene):
        signal_process(worker, signal.SIGKILL)
        yield


def _is_ready(scene: Scene) -> None:
    scene.eventually(scene.ready, "readiness")


def _another_worker(scene: Scene) -> None:
    scene.eventually(lambda: scene.mixer.children(WORKER) and scene.ready(), "another worker")


@contextmanager
def _both_killed(scene: Scene) -> Iterator[list[int]]:
    before = scene.mixer.workers(2)
    for worker in before:
        signal_process(worker, signal.SIGKILL)
    yield before


def _both_workers(scene: Scene) -> None:
    with _both_killed(scene) as before:
        scene.eventually(lambda: not {*before} & {*scene.mixer.workers(2)} and scene.ready(), "two other workers")


def _while_draining(process: str, number: signal.Signals) -> Inject:
    """Mixer is told to end, and one of its children is sent this before it has."""

    def inject(scene: Scene) -> None:
        child = pid_of(scene, process)
        scene.mixer.running.signal(signal.SIGTERM)
        signal_process(child, number)
        _start_once_ended(scene)

    return inject


def _worker_faults() -> Iterator[Fault]:
    killed, stop, end = signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM
    waits, hung = "calls wait, and none fails", "it is replaced after 10 s; calls fail until then"
    for name, promise, inject in (
        ("killed, and the next while it starts", "the same, for both", in_its_start("worker", killed)),
        ("stopped for a second while it starts", AFTER, in_its_start("worker", stop, 1.0)),
        ("hung while it starts", "it is replaced after 10 s, as one that works", in_its_start("worker", stop)),
        ("told to end while it starts", AFTER, in_its_start("worker", end)),
        ("killed during a reload", "the same; the reload is made up for", in_a_reload(replaced("worker", killed))),
        ("hung during a reload", hung, in_a_reload(replaced("worker", stop))),
        ("told to end during a reload", AFTER, in_a_reload(told_to_end("worker"))),
    ):
        yield Fault(f"worker {name}", ONE, promise, inject, None, 5, KILLED)
    in_reload = in_a_reload(lasting(stopped("worker"), 1.0))
    yield Fault("worker stopped for a second during a reload", ONE, waits, in_reload, ending=KILLED)
    yield Fault("both workers killed", TWO, AFTER, While(_both_killed, _both_workers), None, 5, KILLED)
    yield Fault("a reload", ONE, "no call notices", lasting(reloading, 1.0, _is_ready))


def _supervisor_faults() -> Iterator[Fault]:
    again = "every child ends; after a start all is as before"
    in_reload = in_a_reload(kill_supervisor)
    yield Fault("supervisor killed while it starts", ONE, again, _kill_supervisor_in_its_start, None, 3)
    yield Fault("supervisor killed during a reload", ONE, again, in_reload, None, 3, KILLED, unbooked=True)
    yield Fault(
        "supervisor killed while it drains", ONE, again, _kill_supervisor_while_draining, None, 3, KILLED, unbooked=True
    )
    yield Fault(
        "supervisor stopped while a worker dies",
        ONE,
        "the worker is replaced once the supervisor goes on",
        lasting(_worker_dies_while_supervisor_stands, 2.0, _another_worker),
        None,
        5,
        KILLED,
    )
    yield Fault("supervisor stopped during a reload", ONE, "no call notices", in_a_reload(lasting(supervisor_stopped)))
    ready = "it goes on, and all is well"
    yield Fault("supervisor stopped while it starts", ONE, ready, _stop_supervisor_in_its_start, None, 3)
    yield Fault(
        "supervisor stopped while it drains",
        ONE,
        "it goes on, and ends with 0; no row that was accepted is lost",
        _stop_supervisor_while_draining,
        None,
        3,
    )
    yield Fault("SIGTERM while it starts", ONE, "exit 0, and it starts again", _terminated_in_its_start, None, 3)
    yield Fault("SIGTERM six times", ONE, "as one", _terminated_again_and_again, None, 3)


def _store_faults() -> Iterator[Fault]:
    killed, stop, end = signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM
    for name, inject in (
        ("killed, and the next while it starts", in_its_start("store", killed)),
        ("told to end by somebody else", told_to_end("store")),
        ("hung while it starts", in_its_start("store", stop)),
        ("stopped for two seconds while it starts", in_its_start("store", stop, 2.0)),
        ("killed during a reload", in_a_reload(replaced("store", killed))),
        ("hung during a reload", in_a_reload(replaced("store", stop))),
        ("told to end while it starts", in_its_start("store", end)),
        ("told to end during a reload", in_a_reload(told_to_end("store"))),
    ):
        yield Fault(f"store {name}", ONE, ROWS_WAIT, inject)


def _drain_faults() -> Iterator[Fault]:
    killed, stop, end = signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM
    for name, process, setup, losing in (
        ("worker", "worker", ONE, KILLED),
        ("store", "store", ONE, frozenset[str]()),
        ("embedded Valkey", "valkey", TWO, frozenset[str]()),
        ("candidate", "shadow", CANDIDATE, frozenset[str]()),
    ):
        for what, number in (("killed", killed), ("hung", stop), ("told to end", end)):
            inject = _while_draining(process, number)
            yield Fault(f"{name} {what} while mixer drains", setup, _ENDS, inject, None, 3, losing)


def _valkey_faults() -> Iterator[Fault]:
    killed, stop = signal.SIGKILL, signal.SIGSTOP
    anew = "limits begin anew; calls follow rate_limit.on_error until it is back"
    for name, promise, inject in (
        ("told to end by somebody else", anew, told_to_end("valkey")),
        ("stopped for a second", "calls follow rate_limit.on_error", lasting(stopped("valkey"), 1.0)),
        ("killed, and the next while it starts", anew, in_its_start("valkey", killed)),
        ("stopped for a second while it starts", anew, in_its_start("valkey", stop, 1.0)),
        ("killed during a reload", anew, in_a_reload(replaced("valkey", killed))),
        ("hung while it starts", anew, in_its_start("valkey", stop)),
        ("hung during a reload", anew, in_a_reload(replaced("valkey", stop))),
    ):
        yield Fault(f"embedded Valkey {name}", TWO, promise, inject)


def _inside_faults() -> Iterator[Fault]:
    killed, stop = signal.SIGKILL, signal.SIGSTOP
    for name, promise, inject in (
        ("killed", AFTER, replaced("worker", killed)),
        ("killed while it starts", AFTER, in_its_start("worker", killed)),
        ("hung", "it is replaced after 10 s", replaced("worker", stop)),
        ("told to end", AFTER, told_to_end("worker")),
        ("killed during a reload", AFTER, in_a_reload(replaced("worker", killed))),
        ("hung while it starts", "it is replaced after 10 s", in_its_start("worker", stop)),
        ("killed while mixer drains", _ENDS, _while_draining("worker", killed)),
        ("hung while mixer drains", _ENDS, _while_draining("worker", stop)),
        ("told to end while mixer drains", _ENDS, _while_draining("worker", signal.SIGTERM)),
    ):
        yield Fault(f"worker inside an Envoy {name}", INSIDE, promise, inject, None, 5, KILLED)
    yield Fault(
        "worker inside an Envoy stopped for a second",
        INSIDE,
        "calls wait, and none fails",
        lasting(stopped("worker"), 1.0),
        ending=KILLED,
    )
    yield Fault(
        "supervisor of a worker inside an Envoy killed",
        INSIDE,
        "every child ends; after a start all is as before",
        kill_supervisor,
        None,
        3,
        KILLED,
        unbooked=True,
    )


FAULTS = (
    *_worker_faults(),
    *_supervisor_faults(),
    *_store_faults(),
    *_drain_faults(),
    *_valkey_faults(),
    *_inside_faults(),
)

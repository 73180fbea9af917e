"""Processes that are killed, stopped or told to end at other stages of their lives: starting, reloading, taking over.

What happens to them while they do their work is in `processes.py`.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.faults.fault import Fault, Inject, Lasting, lasting
from tests.faults.processes import (
    KILLED,
    ONE,
    STORE,
    TWO,
    WORKER,
    pid_of,
    pids_of,
    replaced,
    stopped,
    told_to_end,
)
from tests.faults.scene import Scene, signal_process
from tests.parts.mixer_process import is_running

INSIDE = "a worker inside an Envoy"
_AFTER = "calls fail until another listens, seconds later"


def in_its_start(process: str, number: signal.Signals, seconds: float = 0.0) -> Inject:
    """It is killed, and to the next something happens as soon as it has been started.

    After so many seconds it may go on; with none it is stopped for good.
    """

    def inject(scene: Scene) -> None:
        def others() -> list[int]:
            return [one for one in pids_of(scene, process) if one != first]

        first = pid_of(scene, process)
        signal_process(first, signal.SIGKILL)
        scene.eventually(others, f"another {process}")
        second = others()[0]
        signal_process(second, number)
        if seconds:
            time.sleep(seconds)
            signal_process(second, signal.SIGCONT)
        else:
            scene.eventually(lambda: not is_running(second), f"the end of the {process} that was stopped")
        scene.eventually(lambda: pids_of(scene, process) and scene.ready(), f"a {process} that is ready")

    return inject


def _change(scene: Scene, rules: int = 0) -> None:
    text = "\n".join(f"x{number} := {number}" for number in range(rules))
    scene.mixer.write("policies/more.rego", f"package more\n\n# {time.monotonic()}\n{text}\ny := 1\n")


@contextmanager
def reloading(scene: Scene) -> Iterator[None]:
    """A change of policies is being read and built."""
    _change(scene, 300)
    scene.mixer.running.signal(signal.SIGHUP)
    yield
    (scene.folder / "policies" / "more.rego").unlink()


def _in_a_reload(act: Callable[[Scene], object]) -> Inject:
    def inject(scene: Scene) -> None:
        with reloading(scene):
            act(scene)
            scene.eventually(scene.ready, "readiness")

    return inject


@contextmanager
def taking_over(scene: Scene) -> Iterator[int]:
    """A large revision is being built in a fresh worker, whose process id it is."""
    before = pids_of(scene, "worker")
    _change(scene, 20_000)
    scene.mixer.running.signal(signal.SIGHUP)

    def fresh() -> list[int]:
        return [one for one in pids_of(scene, "worker") if one not in before]

    scene.eventually(fresh, "a worker that is to take over")
    try:
        yield fresh()[0]
    finally:
        (scene.folder / "policies" / "more.rego").unlink()


def _successor(number: signal.Signals) -> Inject:
    """The worker that is to take over is lost; the change is made up for by the next reload."""

    def inject(scene: Scene) -> None:
        with taking_over(scene) as fresh:
            signal_process(fresh, number)
            scene.eventually(lambda: not is_running(fresh), "the end of the worker that was to take over")
        _back_to_small(scene)

    return inject


def _back_to_small(scene: Scene) -> None:
    """Waits until the revision without the large part is in force, which it may have been all the time."""
    good = scene.metric("mixer_reloads_total")
    scene.mixer.running.signal(signal.SIGHUP)
    scene.eventually(lambda: scene.metric("mixer_reloads_total") > good and scene.ready(), "the end of a reload", 120)


def _predecessor(number: signal.Signals) -> Inject:
    """The worker that answers is lost while another is built to take over from it."""

    def inject(scene: Scene) -> None:
        answering = pid_of(scene, "worker")
        with taking_over(scene):
            signal_process(answering, number)
            scene.eventually(lambda: not is_running(answering), "the end of the worker that was stopped")
            scene.eventually(scene.ready, "another worker", 120)
        _back_to_small(scene)

    return inject


def _kill_supervisorin_its_start(scene: Scene) -> None:
    scene.mixer.running.signal(signal.SIGTERM)
    scene.mixer.running.wait(180)
    scene.mixer.start(ready=False)
    scene.eventually(lambda: scene.mixer.children(WORKER) or scene.mixer.children(STORE), "a child")
    children = [*scene.mixer.children(WORKER), *scene.mixer.children(STORE)]
    signal_process(scene.mixer.running.pid, signal.SIGKILL)
    scene.eventually(lambda: not any(map(is_running, children)), "the end of every child")
    scene.mixer.start()


def _kill_supervisor(scene: Scene) -> None:
    children = [*scene.mixer.children(WORKER), *scene.mixer.children(STORE)]
    signal_process(scene.mixer.running.pid, signal.SIGKILL)
    scene.eventually(lambda: not any(map(is_running, children)), "the end of every child")
    scene.mixer.start()


def _kill_supervisor_while_draining(scene: Scene) -> None:
    scene.mixer.running.signal(signal.SIGTERM)
    time.sleep(0.1)
    _kill_supervisor(scene)


def _supervisor_stopped_while_a_worker_dies(scene: Scene) -> None:
    worker = scene.mixer.worker()
    scene.mixer.running.signal(signal.SIGSTOP)
    signal_process(worker, signal.SIGKILL)
    time.sleep(2.0)
    scene.mixer.running.signal(signal.SIGCONT)
    scene.eventually(lambda: scene.mixer.children(WORKER) not in ([], [worker]) and scene.ready(), "another worker")


def _terminatedin_its_start(scene: Scene) -> None:
    scene.mixer.running.signal(signal.SIGTERM)
    scene.mixer.running.wait(180)
    scene.mixer.start(ready=False)
    scene.eventually(lambda: scene.mixer.children(WORKER), "a worker")
    scene.mixer.running.signal(signal.SIGTERM)
    if code := scene.mixer.running.wait(180):
        scene.complaints.append(f"it ended with {code}")
    scene.mixer.start()


def _both_workers(scene: Scene) -> None:
    before = scene.mixer.workers(2)
    for worker in before:
        signal_process(worker, signal.SIGKILL)
    scene.eventually(lambda: not {*before} & {*scene.mixer.workers(2)} and scene.ready(), "two other workers")


def _worker_faults() -> Iterator[Fault]:
    killed, stop, end = signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM
    yield Fault(
        "worker stopped for a second while it starts", ONE, _AFTER, in_its_start("worker", stop, 1.0), None, 5, KILLED
    )
    yield Fault(
        "worker hung while it starts",
        ONE,
        "it is replaced after 10 s, as one that works",
        in_its_start("worker", stop),
        None,
        5,
        KILLED,
    )
    yield Fault("worker told to end while it starts", ONE, _AFTER, in_its_start("worker", end), None, 5, KILLED)
    yield Fault(
        "worker stopped for a second during a reload",
        ONE,
        "calls wait, and none fails",
        _in_a_reload(lasting(stopped("worker"), 1.0)),
    )
    yield Fault(
        "worker hung during a reload",
        ONE,
        "it is replaced after 10 s; calls fail until then",
        _in_a_reload(replaced("worker", stop)),
        None,
        5,
        KILLED,
    )
    yield Fault("worker told to end during a reload", ONE, _AFTER, _in_a_reload(told_to_end("worker")), None, 5)
    yield Fault(
        "worker killed that is to take over", ONE, "no call notices; the revision before stays", _successor(killed)
    )
    yield Fault("worker hung that is to take over", ONE, "the same, and it is ended after 10 s", _successor(stop))
    yield Fault(
        "worker killed while another is to take over",
        ONE,
        "calls fail until what replaces it listens with the revision before, seconds later",
        _predecessor(killed),
        None,
        5,
        KILLED,
    )
    yield Fault(
        "worker hung while another is to take over",
        ONE,
        "the same, ten seconds later",
        _predecessor(stop),
        None,
        5,
        KILLED,
    )
    yield Fault("both workers killed", TWO, _AFTER, _both_workers, None, 5, KILLED)


def _supervisor_faults() -> Iterator[Fault]:
    again = "every child ends; after a start all is as before"
    in_reload = _in_a_reload(_kill_supervisor)
    yield Fault("supervisor killed while it starts", ONE, again, _kill_supervisorin_its_start, None, 3)
    yield Fault("supervisor killed during a reload", ONE, again, in_reload, None, 3, KILLED)
    yield Fault("supervisor killed while it drains", ONE, again, _kill_supervisor_while_draining, None, 3, KILLED)
    yield Fault(
        "supervisor stopped while a worker dies",
        ONE,
        "the worker is replaced once the supervisor goes on",
        _supervisor_stopped_while_a_worker_dies,
        None,
        5,
        KILLED,
    )
    yield Fault("SIGTERM while it starts", ONE, "exit 0, and it starts again", _terminatedin_its_start, None, 3)


def _store_faults() -> Iterator[Fault]:
    rows = "no call notices; rows wait, and are written once"
    yield Fault("store told to end by somebody else", ONE, rows, told_to_end("store"))
    yield Fault("store hung while it starts", ONE, rows, in_its_start("store", signal.SIGSTOP))
    yield Fault("store stopped for two seconds while it starts", ONE, rows, in_its_start("store", signal.SIGSTOP, 2.0))
    yield Fault("store killed during a reload", ONE, rows, _in_a_reload(replaced("store", signal.SIGKILL)))


def _valkey_faults() -> Iterator[Fault]:
    anew = "limits begin anew; calls follow rate_limit.on_error until it is back"
    yield Fault("embedded Valkey told to end by somebody else", TWO, anew, told_to_end("valkey"))
    yield Fault(
        "embedded Valkey stopped for a second", TWO, "calls follow rate_limit.on_error", lasting(stopped("valkey"), 1.0)
    )
    yield Fault(
        "embedded Valkey killed, and the next while it starts", TWO, anew, in_its_start("valkey", signal.SIGKILL, 0.1)
    )
    yield Fault("embedded Valkey killed during a reload", TWO, anew, _in_a_reload(replaced("valkey", signal.SIGKILL)))


def _inside_faults() -> Iterator[Fault]:
    killed, stop = signal.SIGKILL, signal.SIGSTOP
    yield Fault("worker inside an Envoy killed", INSIDE, _AFTER, replaced("worker", killed), None, 5, KILLED)
    yield Fault(
        "worker inside an Envoy killed while it starts",
        INSIDE,
        _AFTER,
        in_its_start("worker", killed, 0.1),
        None,
        5,
        KILLED,
    )
    yield Fault(
        "worker inside an Envoy stopped for a second",
        INSIDE,
        "calls wait, and none fails",
        lasting(stopped("worker"), 1.0),
    )
    yield Fault(
        "worker inside an Envoy hung", INSIDE, "it is replaced after 10 s", replaced("worker", stop), None, 5, KILLED
    )
    yield Fault("worker inside an Envoy told to end", INSIDE, _AFTER, told_to_end("worker"), None, 5)
    yield Fault(
        "worker inside an Envoy killed during a reload",
        INSIDE,
        _AFTER,
        _in_a_reload(replaced("worker", killed)),
        None,
        5,
        KILLED,
    )
    yield Fault(
        "supervisor of a worker inside an Envoy killed",
        INSIDE,
        "every child ends; after a start all is as before",
        _kill_supervisor,
        None,
        3,
        KILLED,
    )


FAULTS = (
    *_worker_faults(),
    *_supervisor_faults(),
    *_store_faults(),
    *_valkey_faults(),
    *_inside_faults(),
)


@contextmanager
def _taken_over(scene: Scene) -> Iterator[None]:
    with taking_over(scene):
        yield


LASTING = (
    Lasting("a reload under way", ONE, reloading),
    Lasting("a fresh worker about to take over", ONE, _taken_over),
    Lasting("a worker inside an Envoy hung", INSIDE, stopped("worker"), KILLED),
)

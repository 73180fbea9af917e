"""Processes that are killed, stopped or told to end at other stages of their lives: starting, reloading, taking over,
draining.

What happens to them while they do their work is in `processes.py`.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tests.faults.fault import Fault, Inject, While, lasting
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


def _in_a_reload(act: While) -> While:
    @contextmanager
    def state(scene: Scene) -> Iterator[None]:
        with reloading(scene), act.state(scene):
            yield

    return While(state, _injected_in_a_reload(act))


def _injected_in_a_reload(act: Inject) -> Inject:
    def inject(scene: Scene) -> None:
        with reloading(scene):
            act(scene)
            scene.eventually(scene.ready, "readiness")

    return inject


@contextmanager
def taking_over(scene: Scene) -> Iterator[int]:
    """A large revision is being built in a fresh worker, whose process id it is."""
    before = pids_of(scene, "worker")
    change(scene, 20_000)
    scene.mixer.running.signal(signal.SIGHUP)

    def fresh() -> list[int]:
        return [one for one in pids_of(scene, "worker") if one not in before]

    try:
        scene.eventually(fresh, "a worker that is to take over")
        yield fresh()[0]
    finally:
        (scene.folder / "policies" / "more.rego").unlink()


def _beside(number: signal.Signals, *, answers: bool) -> Callable[[Scene], AbstractContextManager[int]]:
    """While another is built to take over, one of the two is sent this: the one that answers, or the other."""

    @contextmanager
    def state(scene: Scene) -> Iterator[int]:
        answering = pid_of(scene, "worker")
        with taking_over(scene) as fresh:
            lost = answering if answers else fresh
            signal_process(lost, number)
            yield lost

    return state


def _lost_beside(number: signal.Signals, *, answers: bool) -> While:
    """The change is made up for by the next reload."""
    lose = _beside(number, answers=answers)

    def inject(scene: Scene) -> None:
        with lose(scene) as lost:
            scene.eventually(lambda: not is_running(lost), "the end of the worker that was lost")
            if answers:
                scene.eventually(scene.ready, "another worker", 120)
        _back_to_small(scene)

    return While(lose, inject)


def _back_to_small(scene: Scene) -> None:
    """Waits until the revision without the large part is in force, which it may have been all the time."""
    good = scene.metric("mixer_reloads_total")
    scene.mixer.running.signal(signal.SIGHUP)
    scene.eventually(lambda: scene.metric("mixer_reloads_total") > good and scene.ready(), "the end of a reload", 120)


def _large_reload(scene: Scene) -> None:
    """So large that it is built in a fresh worker, which takes over; and back."""
    before = scene.mixer.revision()
    with taking_over(scene):
        scene.eventually(lambda: scene.mixer.revision() != before, "a new revision", 120)
    before = scene.mixer.revision()
    scene.mixer.running.signal(signal.SIGHUP)
    scene.eventually(lambda: scene.mixer.revision() != before, "the revision before", 120)


def _start_until_a_child(scene: Scene) -> None:
    """Mixer ends and is started, until there is a worker or a store."""
    scene.mixer.running.signal(signal.SIGTERM)
    scene.mixer.running.wait(180)
    scene.mixer.start(ready=False)
    scene.eventually(lambda: scene.mixer.children(WORKER) or scene.mixer.children(STORE), "a child")


def _kill_supervisor_in_its_start(scene: Scene) -> None:
    _start_until_a_child(scene)
    kill_supervisor(scene)


def _kill_supervisor_while_draining(scene: Scene) -> None:
    scene.mixer.running.signal(signal.SIGTERM)
    time.sleep(0.1)
    kill_supervisor(scene)


def _terminated_in_its_start(scene: Scene) -> None:
    _start_until_a_child(scene)
    _end(scene)
    scene.mixer.start()


def _end(scene: Scene) -> None:
    scene.mixer.running.signal(signal.SIGTERM)
    if code := scene.mixer.running.wait(180):
        scene.complaints.append(f"it ended with {code}")


def _terminated_again_and_again(scene: Scene) -> None:
    """Somebody is impatient."""
    for _ in range(5):
        scene.mixer.running.signal(signal.SIGTERM)
        time.sleep(0.1)
    _end(scene)
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
        if code := scene.mixer.running.wait(180):
            scene.complaints.append(f"it ended with {code}")
        scene.mixer.start()

    return inject


def _worker_faults() -> Iterator[Fault]:
    killed, stop, end = signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM
    waits, hung = "calls wait, and none fails", "it is replaced after 10 s; calls fail until then"
    taken = "no call notices; the revision before stays"
    for name, promise, inject in (
        ("killed, and the next while it starts", "the same, for both", in_its_start("worker", killed)),
        ("stopped for a second while it starts", AFTER, in_its_start("worker", stop, 1.0)),
        ("hung while it starts", "it is replaced after 10 s, as one that works", in_its_start("worker", stop)),
        ("told to end while it starts", AFTER, in_its_start("worker", end)),
        ("killed during a reload", "the same; the reload is made up for", _in_a_reload(replaced("worker", killed))),
        ("hung during a reload", hung, _in_a_reload(replaced("worker", stop))),
        ("told to end during a reload", AFTER, _in_a_reload(told_to_end("worker"))),
        (
            "killed while another is to take over",
            "calls fail until what replaces it listens with the revision before, seconds later",
            _lost_beside(killed, answers=True),
        ),
        ("hung while another is to take over", "the same, ten seconds later", _lost_beside(stop, answers=True)),
        ("told to end while another is to take over", AFTER, _lost_beside(end, answers=True)),
    ):
        yield Fault(f"worker {name}", ONE, promise, inject, None, 5, KILLED)
    for name, promise, inject in (
        ("stopped for a second during a reload", waits, _in_a_reload(lasting(stopped("worker"), 1.0))),
        ("killed that is to take over", taken, _lost_beside(killed, answers=False)),
        ("hung that is to take over", "the same, and it is ended after 10 s", _lost_beside(stop, answers=False)),
        ("told to end that is to take over", taken, _lost_beside(end, answers=False)),
    ):
        yield Fault(f"worker {name}", ONE, promise, inject, ending=KILLED)
    yield Fault("both workers killed", TWO, AFTER, While(_both_killed, _both_workers), None, 5, KILLED)
    yield Fault("a reload", ONE, "no call notices", lasting(reloading, 1.0, _is_ready))
    yield Fault(
        "a large revision, and back",
        ONE,
        "a fresh worker takes over; no call notices",
        While(taking_over, _large_reload),
    )


def _supervisor_faults() -> Iterator[Fault]:
    again = "every child ends; after a start all is as before"
    in_reload = _injected_in_a_reload(kill_supervisor)
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
    yield Fault("supervisor stopped during a reload", ONE, "no call notices", _in_a_reload(lasting(supervisor_stopped)))
    yield Fault("SIGTERM while it starts", ONE, "exit 0, and it starts again", _terminated_in_its_start, None, 3)
    yield Fault("SIGTERM six times", ONE, "as one", _terminated_again_and_again, None, 3)


def _store_faults() -> Iterator[Fault]:
    killed, stop, end = signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM
    for name, inject in (
        ("killed, and the next while it starts", in_its_start("store", killed)),
        ("told to end by somebody else", told_to_end("store")),
        ("hung while it starts", in_its_start("store", stop)),
        ("stopped for two seconds while it starts", in_its_start("store", stop, 2.0)),
        ("killed during a reload", _in_a_reload(replaced("store", killed))),
        ("hung during a reload", _in_a_reload(replaced("store", stop))),
        ("told to end while it starts", in_its_start("store", end)),
    ):
        yield Fault(f"store {name}", ONE, ROWS_WAIT, inject)


def _drain_faults() -> Iterator[Fault]:
    killed, stop = signal.SIGKILL, signal.SIGSTOP
    promise = "mixer ends all the same; what was lost is counted"
    for process, setup, losing in (
        ("worker", ONE, KILLED),
        ("store", ONE, frozenset[str]()),
        ("valkey", TWO, frozenset[str]()),
    ):
        name = "embedded Valkey" if process == "valkey" else process
        for what, number in (("killed", killed), ("hung", stop)):
            inject = _while_draining(process, number)
            yield Fault(f"{name} {what} while mixer drains", setup, promise, inject, None, 3, losing)


def _valkey_faults() -> Iterator[Fault]:
    killed, stop = signal.SIGKILL, signal.SIGSTOP
    anew = "limits begin anew; calls follow rate_limit.on_error until it is back"
    for name, promise, inject in (
        ("told to end by somebody else", anew, told_to_end("valkey")),
        ("stopped for a second", "calls follow rate_limit.on_error", lasting(stopped("valkey"), 1.0)),
        ("killed, and the next while it starts", anew, in_its_start("valkey", killed)),
        ("stopped for a second while it starts", anew, in_its_start("valkey", stop, 1.0)),
        ("killed during a reload", anew, _in_a_reload(replaced("valkey", killed))),
    ):
        yield Fault(f"embedded Valkey {name}", TWO, promise, inject)


def _inside_faults() -> Iterator[Fault]:
    killed, stop = signal.SIGKILL, signal.SIGSTOP
    for name, promise, inject in (
        ("killed", AFTER, replaced("worker", killed)),
        ("killed while it starts", AFTER, in_its_start("worker", killed)),
        ("hung", "it is replaced after 10 s", replaced("worker", stop)),
        ("told to end", AFTER, told_to_end("worker")),
        ("killed during a reload", AFTER, _in_a_reload(replaced("worker", killed))),
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

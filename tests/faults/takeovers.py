"""A fresh worker is built to take over from the one that answers, and a process is lost meanwhile: one of the two, or
another.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tests.faults.fault import Fault, Inject, While, lasting, within
from tests.faults.processes import (
    AFTER,
    KILLED,
    ONE,
    ROWS_WAIT,
    kill_supervisor,
    pid_of,
    pids_of,
    replaced,
    supervisor_stopped,
)
from tests.faults.scene import Scene, signal_process
from tests.faults.stages import change
from tests.parts.mixer_process import is_running


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


def _stopped_beside(*, answers: bool) -> While:
    """One of the two stands still for a second, and the other takes over all the same, or what replaces it."""
    stop = _beside(signal.SIGSTOP, answers=answers)

    @contextmanager
    def state(scene: Scene) -> Iterator[int]:
        with stop(scene) as one:
            try:
                yield one
            finally:
                signal_process(one, signal.SIGCONT)

    return lasting(state, 1.0, _back_to_small)


def _in_a_takeover(act: Inject) -> Inject:
    """The same while a fresh worker is built."""
    return within(taking_over, act, _back_to_small)


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


def _worker_faults() -> Iterator[Fault]:
    killed, stop, end = signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM
    waits, taken = "calls wait, and none fails", "no call notices; the revision before stays"
    for name, promise, inject in (
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
        ("killed that is to take over", taken, _lost_beside(killed, answers=False)),
        ("hung that is to take over", "the same, and it is ended after 10 s", _lost_beside(stop, answers=False)),
        ("told to end that is to take over", taken, _lost_beside(end, answers=False)),
        ("stopped for a second while another is to take over", waits, _stopped_beside(answers=True)),
        ("stopped for a second that is to take over", "no call notices", _stopped_beside(answers=False)),
    ):
        yield Fault(f"worker {name}", ONE, promise, inject, ending=KILLED)


FAULTS = (
    *_worker_faults(),
    Fault(
        "a large revision, and back",
        ONE,
        "a fresh worker takes over; no call notices",
        While(taking_over, _large_reload),
    ),
    Fault(
        "supervisor killed while a worker is to take over",
        ONE,
        "every child ends; after a start all is as before",
        _in_a_takeover(kill_supervisor),
        None,
        3,
        KILLED,
        unbooked=True,
    ),
    Fault(
        "supervisor stopped while a worker is to take over",
        ONE,
        "no call notices",
        _in_a_takeover(lasting(supervisor_stopped)),
    ),
    Fault(
        "store killed while a worker is to take over",
        ONE,
        ROWS_WAIT,
        _in_a_takeover(replaced("store", signal.SIGKILL)),
    ),
    Fault(
        "store hung while a worker is to take over", ONE, ROWS_WAIT, _in_a_takeover(replaced("store", signal.SIGSTOP))
    ),
)

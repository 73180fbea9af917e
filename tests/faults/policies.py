"""Policies that panic, loop, take memory without end, are faulty, gone, or come in storms."""

from __future__ import annotations

import itertools
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException

from tests.faults.fault import Fault, State, While, lasting
from tests.faults.processes import KILLED, ONE
from tests.faults.resources import limit_memory
from tests.faults.scene import Scene
from tests.parts.http_client import request
from tests.parts.memory_group import memory_group, why_none
from tests.parts.mixer_process import is_running

_ALLOCATED = 512 << 20
"""Bytes that a policy may take beyond what its worker has."""
_CONTAINED = 64 << 20
"""Bytes that a container has beyond what was taken in it."""
_FAULTY = "package envoy.authz\n\nallow := \n"
STAYS = "the last good revision decides; the fault is logged, counted and shown"


def _loop(scene: Scene) -> None:
    before = scene.restarts("worker")
    request(scene.envoy.port, "/loop", timeout=30)
    scene.eventually(lambda: scene.restarts("worker") > before and scene.ready(), "another worker")


@contextmanager
def _asking(scene: Scene, path: str) -> Iterator[list[int]]:
    """Somebody asks for this path on and on; the statuses of the answers."""
    over, statuses = threading.Event(), list[int]()

    def ask() -> None:
        while not over.is_set():
            with suppress(OSError, HTTPException):
                statuses.append(request(scene.envoy.port, path, timeout=30).status)
            over.wait(0.02)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield statuses
    finally:
        over.set()
        asking.join()


@contextmanager
def _panics(scene: Scene) -> Iterator[None]:
    """The engine panics on every request of somebody."""
    with _asking(scene, "/panic?q=%C3%A9") as statuses:
        time.sleep(1.0)
        yield
    if 200 in statuses or not statuses:
        scene.complaints.append(f"a request whose policy panics was answered {sorted(set(statuses))}")


@contextmanager
def _loops(scene: Scene) -> Iterator[None]:
    """An evaluation that does not end has begun."""
    with _asking(scene, "/loop"):
        time.sleep(0.1)
        yield


@contextmanager
def _allocates(scene: Scene) -> Iterator[None]:
    """An evaluation that takes memory without end has begun."""
    limit_memory(scene.mixer.worker(), _ALLOCATED)
    with _asking(scene, "/allocate"):
        time.sleep(0.1)
        yield


def _allocate(scene: Scene) -> None:
    """One request's policy takes memory until there is no more; its worker is replaced."""
    before, worker = scene.restarts("worker"), scene.mixer.worker()
    limit_memory(worker, _ALLOCATED)
    with suppress(OSError, HTTPException):
        answer = request(scene.envoy.port, "/allocate", timeout=30)
        if answer.status == 200:
            scene.complaints.append("a request whose policy takes memory without end passed")
    scene.eventually(lambda: scene.restarts("worker") > before and scene.ready(), "another worker")


@contextmanager
def _fills_container(scene: Scene) -> Iterator[None]:
    """The same in a container, which the worker has for itself: the kernel kills it."""
    with memory_group([scene.mixer.worker()]) as group, _asking(scene, "/allocate"):
        group.hold_to(_CONTAINED)
        time.sleep(0.1)
        yield


@contextmanager
def _fills_all(scene: Scene) -> Iterator[None]:
    """The same in a container that all of mixer has been started in."""
    scene.mixer.running.signal(signal.SIGTERM)
    scene.mixer.running.wait(180)
    starting = scene.mixer.start(ready=False)
    with memory_group([starting.pid]) as group:
        scene.eventually(scene.ready, "readiness")
        group.hold_to(_CONTAINED)
        with _asking(scene, "/allocate"):
            time.sleep(0.1)
            yield


def _until_killed(state: State) -> While:
    def killed(scene: Scene) -> float:
        return scene.metric("mixer_worker_restarts_total", reason="killed")

    def inject(scene: Scene) -> None:
        supervisor, before = scene.mixer.running.pid, killed(scene)
        with state(scene):
            if scene.mixer.running.pid != supervisor:
                supervisor, before = scene.mixer.running.pid, 0.0
            scene.eventually(lambda: killed(scene) > before, "a process that the kernel has killed")
        scene.eventually(scene.ready, "readiness")
        if not is_running(supervisor):
            scene.complaints.append("the supervisor was killed")

    return While(state, inject)


@contextmanager
def faulty(scene: Scene) -> Iterator[None]:
    """Somebody has written a policy that is none."""
    good = (scene.folder / "policies" / "authz.rego").read_text()
    scene.mixer.write("policies/authz.rego", _FAULTY)
    try:
        yield
    finally:
        scene.mixer.write("policies/authz.rego", good)


@contextmanager
def _policies_gone(scene: Scene) -> Iterator[None]:
    hidden = scene.folder / "hidden"
    (scene.folder / "policies").rename(hidden)
    try:
        yield
    finally:
        hidden.rename(scene.folder / "policies")


@contextmanager
def _configuration_gone(scene: Scene) -> Iterator[None]:
    text = scene.mixer.file.read_text()
    scene.mixer.file.unlink()
    try:
        yield
    finally:
        scene.mixer.write("mixer.yaml", text)


def _refused(state: State) -> While:
    """A reload is refused while it lasts, and one succeeds afterwards."""

    def inject(scene: Scene) -> None:
        refused = scene.metric("mixer_reloads_total", outcome="refused")
        with state(scene):
            scene.mixer.running.signal(signal.SIGHUP)
            scene.eventually(lambda: scene.metric("mixer_reloads_total", outcome="refused") > refused, "a refusal")
        scene.mixer.running.signal(signal.SIGHUP)
        scene.eventually(lambda: not json.loads(scene.mixer.get("/config").body)["last_reload_faults"], "a good one")

    return While(state, inject)


@contextmanager
def _storm(scene: Scene) -> Iterator[None]:
    """Forty changes in two seconds, and it goes on until the block ends."""
    over = threading.Event()

    def change() -> None:
        for number in itertools.count():
            scene.mixer.write("policies/more.rego", f"package more\n\nx := {number}\n")
            with suppress(ProcessLookupError):
                scene.mixer.running.signal(signal.SIGHUP)
            if over.wait(0.05):
                return

    storming = threading.Thread(target=change)
    storming.start()
    try:
        time.sleep(2.0)
        yield
    finally:
        over.set()
        storming.join()


def _forty_reloads(scene: Scene) -> None:
    with _storm(scene):
        pass
    scene.eventually(scene.ready, "readiness")


FAULTS = (
    Fault(
        "a policy that loops",
        ONE,
        "its worker is replaced; calls fail until another listens",
        While(_loops, _loop),
        None,
        5,
        KILLED,
    ),
    Fault("a policy that panics", ONE, "the calls that make it panic fail closed, no others", lasting(_panics)),
    Fault(
        "a policy that allocates without end",
        ONE,
        "its worker is replaced; calls fail until another listens",
        While(_allocates, _allocate),
        None,
        5,
        KILLED,
    ),
    Fault(
        "a policy that fills its container",
        ONE,
        "the kernel kills its worker, which is replaced; calls fail until another listens",
        _until_killed(_fills_container),
        None,
        5,
        KILLED,
        lacks=why_none,
    ),
    Fault(
        "a policy that fills the container of all of mixer",
        ONE,
        "the kernel kills what is largest, the worker or the store, and it is replaced; calls may fail until then",
        _until_killed(_fills_all),
        None,
        5,
        KILLED,
        lacks=why_none,
    ),
    Fault("a faulty policy on reload", ONE, STAYS, _refused(faulty)),
    Fault("the folder of policies gone", ONE, STAYS, _refused(_policies_gone)),
    Fault("the configuration gone", ONE, STAYS, _refused(_configuration_gone)),
    Fault("a storm of 40 reloads", ONE, "no call notices", While(_storm, _forty_reloads)),
)

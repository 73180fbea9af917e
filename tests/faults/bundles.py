"""A bundle server that is away, hangs, is slow, talks nonsense, or is replaced by another."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.fault import Fault, State, While
from tests.faults.policies import STAYS, faulty
from tests.faults.scene import Scene
from tests.faults.servers import elsewhere

BUNDLES = "a bundle server"
_GOOD = "the last good bundle decides"
_BEHAVIOURS = {
    "answers 500": "error",
    "hangs": "hang",
    "is slow (a byte in a tenth of a second)": "slow",
    "sends a page": "nonsense",
    "sends half a bundle": "cut",
    "sends without end": "endless",
}


def _behaves(behaviour: str) -> State:
    @contextmanager
    def state(scene: Scene) -> Iterator[None]:
        scene.parts["bundles"].behaviour = behaviour
        try:
            yield
        finally:
            scene.parts["bundles"].behaviour = "good"

    return state


@contextmanager
def _away(scene: Scene) -> Iterator[None]:
    """Nobody listens behind its address."""
    with elsewhere(scene, 1):
        yield


def _until_seen(state: State) -> While:
    """It lasts until a look at the bundle has failed; then one succeeds."""

    def inject(scene: Scene) -> None:
        failed = scene.metric("mixer_fetches_total", outcome="failed")
        with state(scene):
            scene.eventually(lambda: scene.metric("mixer_fetches_total", outcome="failed") > failed, "a failed look")
        good = scene.metric("mixer_fetches_total", outcome="unchanged")
        scene.eventually(lambda: scene.metric("mixer_fetches_total", outcome="unchanged") > good, "a good look")

    return While(state, inject)


def _faulty_bundle(scene: Scene) -> None:
    refused = scene.metric("mixer_reloads_total", outcome="refused")
    with faulty(scene):
        scene.eventually(lambda: scene.metric("mixer_reloads_total", outcome="refused") > refused, "a refusal")
    time.sleep(1.0)


def _restart_without(scene: Scene) -> None:
    """The server is away while mixer starts: the copy on disk decides."""
    with _behaves("error")(scene):
        scene.mixer.running.signal(signal.SIGTERM)
        scene.mixer.running.wait(180)
        scene.mixer.start()


@contextmanager
def _another(scene: Scene) -> Iterator[None]:
    """Another server takes over its address, with a change that the one before never had."""
    with _behaves("hang")(scene), elsewhere(scene, scene.parts["other"].port):
        scene.mixer.write("policies/other.rego", f"package other\n\nx := {time.monotonic()}\n")
        yield


def _followed(scene: Scene) -> None:
    revision = scene.mixer.revision()
    with _another(scene):
        scene.eventually(lambda: scene.mixer.revision() != revision, "the bundle of the other server")


FAULTS = (
    *(
        Fault(f"the bundle server {what}", BUNDLES, _GOOD, _until_seen(_behaves(how)))
        for what, how in _BEHAVIOURS.items()
    ),
    Fault("the bundle server away", BUNDLES, _GOOD, _until_seen(_away)),
    Fault(
        "the bundle server fails over to another",
        BUNDLES,
        "no call notices; the other's bundle decides",
        While(_another, _followed),
    ),
    Fault("a faulty bundle", BUNDLES, STAYS, While(faulty, _faulty_bundle)),
    Fault("a restart while the bundle server is away", BUNDLES, "the copy on disk decides", _restart_without, None, 3),
)

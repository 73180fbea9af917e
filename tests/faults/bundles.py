"""A bundle server that is away, hangs, is slow, talks nonsense, or is replaced by another."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.fault import Fault, Inject, Lasting, State
from tests.faults.policies import FAULTY, STAYS
from tests.faults.scene import Scene

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
    proxy, before = scene.parts["proxy"], scene.parts["proxy"].target
    proxy.target = 1
    proxy.cut()
    try:
        yield
    finally:
        proxy.target = before


def _until_seen(state: State) -> Inject:
    """It lasts until a look at the bundle has failed; then one succeeds."""

    def inject(scene: Scene) -> None:
        failed = scene.metric("mixer_fetches_total", outcome="failed")
        with state(scene):
            scene.eventually(lambda: scene.metric("mixer_fetches_total", outcome="failed") > failed, "a failed look")
        good = scene.metric("mixer_fetches_total", outcome="unchanged")
        scene.eventually(lambda: scene.metric("mixer_fetches_total", outcome="unchanged") > good, "a good look")

    return inject


def _faulty_bundle(scene: Scene) -> None:
    good = (scene.folder / "policies" / "authz.rego").read_text()
    refused = scene.metric("mixer_reloads_total", outcome="refused")
    scene.mixer.write("policies/authz.rego", FAULTY)
    scene.eventually(lambda: scene.metric("mixer_reloads_total", outcome="refused") > refused, "a refusal")
    scene.mixer.write("policies/authz.rego", good)
    time.sleep(1.0)


def _restart_without(scene: Scene) -> None:
    """The server is away while mixer starts: the copy on disk decides."""
    with _behaves("error")(scene):
        scene.mixer.running.signal(signal.SIGTERM)
        scene.mixer.running.wait(180)
        scene.mixer.start()


def _another(scene: Scene) -> None:
    """Another server takes over its address, with a change that the one before never had."""
    proxy, before = scene.parts["proxy"], scene.parts["proxy"].target
    revision = scene.mixer.revision()
    scene.parts["bundles"].behaviour = "hang"
    proxy.target = scene.parts["other"].port
    proxy.cut()
    scene.mixer.write("policies/other.rego", f"package other\n\nx := {time.monotonic()}\n")
    scene.eventually(lambda: scene.mixer.revision() != revision, "the bundle of the other server")
    scene.parts["bundles"].behaviour = "good"
    proxy.target = before
    proxy.cut()


FAULTS = (
    *(
        Fault(f"the bundle server {what}", BUNDLES, _GOOD, _until_seen(_behaves(how)))
        for what, how in _BEHAVIOURS.items()
    ),
    Fault("the bundle server away", BUNDLES, _GOOD, _until_seen(_away)),
    Fault("the bundle server fails over to another", BUNDLES, "no call notices; the other's bundle decides", _another),
    Fault("a faulty bundle", BUNDLES, STAYS, _faulty_bundle),
    Fault("a restart while the bundle server is away", BUNDLES, "the copy on disk decides", _restart_without, None, 3),
)

LASTING = (
    Lasting("the bundle server away", BUNDLES, _away),
    Lasting("the bundle server hung", BUNDLES, _behaves("hang")),
    Lasting("a bundle server that sends without end", BUNDLES, _behaves("endless")),
)

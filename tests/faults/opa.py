"""An OPA server that is away, hangs, is slow, talks nonsense, or is replaced by another: without it nobody gets in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.fault import Fault, State, While, lasting
from tests.faults.scene import Scene
from tests.faults.servers import away, elsewhere, late, standing, talks

OPA = "an OPA server decides"
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
_CLOSED = "checks fail closed, at once, until it is back"
_NONSENSE = {
    "bytes of chance": bytes(range(255, 0, -1)) * 4,
    "a page": b"HTTP/1.1 200 OK\r\ncontent-length: 19\r\n\r\n<html>log in</html>",
    "a decision that is none": _HEAD % (17, b'{"result": "yes"}'),
    "half a decision": _HEAD % (400, b'{"result": true'),
    "no decision": _HEAD % (2, b"{}"),
}


def _up(scene: Scene) -> None:
    scene.eventually(lambda: scene.metric("mixer_opa_up") == 1, "its return")


def _closed(state: State) -> While:
    """While it lasts nobody gets in, but for those who asked before."""

    def inject(scene: Scene) -> None:
        with state(scene):
            time.sleep(0.5)
            begun = time.monotonic()
            time.sleep(2.5)
            passed = [one for one in scene.traffic.since(begun) if not one.failed]
        if passed:
            scene.complaints.append(f"{len(passed)} requests passed without a decision")
        _up(scene)

    return While(state, inject)


@contextmanager
def _another(scene: Scene) -> Iterator[None]:
    """Another server takes over its address, and it is gone."""
    with elsewhere(scene, scene.parts["other"].port), away("opa")(scene):
        yield


def _followed(scene: Scene) -> None:
    with _another(scene):
        _up(scene)
        time.sleep(1.0)


def _nobody_got_in(scene: Scene) -> str:
    """Without OPA nothing can be allowed: what failed, failed closed."""
    rows = scene.mixer.rows("SELECT count() AS n FROM requests WHERE verdict = 'error' AND response_code < 400")
    return "" if rows[0]["n"] in {0, "0"} else f"{rows[0]['n']} requests passed without a decision"


def _fault(name: str, promise: str, state: State) -> Fault:
    return Fault(name, OPA, promise, _closed(state), None, 3, holds=_nobody_got_in)


FAULTS = (
    _fault("OPA killed and started", _CLOSED, away("opa")),
    _fault("OPA hung", "checks fail closed, after policy.opa.timeout, until it is back", standing("opa")),
    Fault("OPA slow (200 ms)", OPA, "calls are slow, and none fails", lasting(late(0.2), 3.0)),
    _fault("OPA too slow (1.5 s)", "checks fail closed, after policy.opa.timeout, until it is back", late(1.5)),
    *(_fault(f"OPA answers {what}", _CLOSED, talks(answer)) for what, answer in _NONSENSE.items()),
    Fault(
        "OPA fails over to another",
        OPA,
        "calls that are cut off may fail, no others",
        While(_another, _followed),
        40,
        2,
    ),
)

"""SIGTERM while something else is wrong: mixer ends in its time all the same, with 0, and starts again."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator

from tests.faults.fault import Fault, Inject, Lasting, State
from tests.faults.scene import Scene

_MOST = 90.0
"""Seconds: server.drain_timeout and server.flush_timeout of 5 s each, killing what hangs, and a machine that does much
else."""
_ENDS = "it ends in its time, and starts again"


def terminations(states: Iterable[Lasting]) -> Iterator[Fault]:
    """For each thing that stays wrong for a while, that mixer is told to end meanwhile."""
    for one in states:
        yield Fault(
            f"SIGTERM with {one.name}",
            one.setup,
            _ENDS,
            _end_and_start(one.state),
            None,
            3,
            one.losing,
        )


def _end_and_start(state: State) -> Inject:
    def inject(scene: Scene) -> None:
        with state(scene):
            begun = time.monotonic()
            scene.mixer.running.signal(signal.SIGTERM)
            code = scene.mixer.running.wait(_MOST)
        if code:
            scene.complaints.append(f"it ended with {code} after {time.monotonic() - begun:.1f} s")
        scene.mixer.start()

    return inject

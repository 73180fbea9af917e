"""SIGTERM in the middle of each fault: mixer ends in its time all the same, with 0, and starts again."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator

from tests.faults.fault import Fault, Inject, State, While
from tests.faults.scene import Scene

_MOST = 90.0
"""Seconds: server.drain_timeout and server.flush_timeout of a few seconds, killing what hangs, and a machine that does
much else."""
_ENDS = "exit 0 in its time; no row that was accepted is lost, or it is counted; it starts again"


def terminations(faults: Iterable[Fault]) -> Iterator[Fault]:
    """For each fault that lasts for a while, that mixer is told to end meanwhile."""
    for one in faults:
        if isinstance(one.inject, While):
            yield Fault(
                f"{one.name}; SIGTERM meanwhile",
                one.setup,
                _ENDS,
                _end_and_start(one.inject.state),
                None,
                3,
                one.losing | one.ending,
                lacks=one.lacks,
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

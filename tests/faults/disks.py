"""Disks that are full, read-only or broken, below the spool and below the embedded ClickHouse."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.fault import Fault, State, While
from tests.faults.scene import Scene

DISKS = "disks that fail"
_ERRORS = {"read-only": errno.EROFS, "broken (EIO)": errno.EIO}
_WAIT = "no call notices; rows wait, and are written once"


def _failing(folder: str, error: int) -> State:
    """Writes below a folder of mixer's end in this error."""

    @contextmanager
    def state(scene: Scene) -> Iterator[None]:
        with scene.parts["faulty"].failing(scene.folder / folder, error):
            yield

    return state


@contextmanager
def _spool_full(scene: Scene) -> Iterator[None]:
    """Somebody else's file takes what is left of the spool's disk."""
    with scene.parts["spool_disk"].full():
        yield


@contextmanager
def _rows_nearly_full(scene: Scene) -> Iterator[None]:
    """The disk of the database has less left than is never used."""
    scene.parts["rows_disk"].resize("128m")
    try:
        yield
    finally:
        scene.parts["rows_disk"].resize("2g")


def _until_seen(state: State) -> While:
    """It lasts until a write has failed."""

    def inject(scene: Scene) -> None:
        errors = scene.metric("mixer_store_errors_total")
        with state(scene):
            scene.eventually(lambda: scene.metric("mixer_store_errors_total") > errors, "a write that fails")
        scene.eventually(scene.ready, "readiness")

    return While(state, inject)


_STATES = (
    ("the spool's disk full", _spool_full),
    *((f"the spool's disk {what}", _failing("small/spool", error)) for what, error in _ERRORS.items()),
    ("the rows' disk nearly full", _rows_nearly_full),
    ("the rows' disk full (ENOSPC)", _failing("large/rows/store", errno.ENOSPC)),
    *((f"the rows' disk {what}", _failing("large/rows/store", error)) for what, error in _ERRORS.items()),
)

FAULTS = tuple(
    Fault(
        name,
        DISKS,
        _WAIT,
        _until_seen(state),
        ending=frozenset({"shutdown"} if "spool" in name else ()),  # every row would have to go there first
    )
    for name, state in _STATES
)

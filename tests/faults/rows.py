"""A spool that is gone or torn, and rows that nobody takes for a while. Disks that fail are in `disks.py`."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.fault import Fault, Inject, Lasting, State
from tests.faults.processes import ALWAYS, ONE, STORE
from tests.faults.scene import Scene, signal_process


def _rows_wait(scene: Scene) -> None:
    """ClickHouse is away for so long that rows go to disk."""
    end = time.monotonic() + 6.0
    while time.monotonic() < end:
        for store in scene.mixer.children(STORE):
            signal_process(store, signal.SIGKILL)
        time.sleep(0.2)


@contextmanager
def _spool_gone(scene: Scene) -> Iterator[None]:
    """The spool's folder is removed while mixer runs."""
    shutil.rmtree(scene.folder / "spool", ignore_errors=True)
    yield


@contextmanager
def _spool_is_a_file(scene: Scene) -> Iterator[None]:
    shutil.rmtree(scene.folder / "spool", ignore_errors=True)
    (scene.folder / "spool").write_text("no folder")
    try:
        yield
    finally:
        (scene.folder / "spool").unlink()


def _while_rows_wait(state: State) -> Inject:
    def inject(scene: Scene) -> None:
        with state(scene):
            _rows_wait(scene)

    return inject


def _torn_spool(scene: Scene) -> None:
    """Mixer is killed while rows wait on disk, and the end of a file is torn off."""
    _rows_wait(scene)
    signal_process(scene.mixer.running.pid, signal.SIGKILL)
    scene.mixer.running.wait(180)
    time.sleep(1.0)
    for file in sorted(Path(scene.folder, "spool").rglob("*"))[:2]:
        if file.is_file() and file.stat().st_size > 64:
            with file.open("r+b") as torn:
                torn.truncate(file.stat().st_size - 7)
    scene.mixer.start()


FAULTS = (
    Fault(
        "ClickHouse away for six seconds",
        ONE,
        "no call notices; rows wait, and are written once",
        _rows_wait,
    ),
    Fault(
        "the spool's folder removed",
        ONE,
        "no call notices; rows wait in memory, or are counted",
        _while_rows_wait(_spool_gone),
    ),
    Fault(
        "the spool's folder replaced by a file",
        ONE,
        "no call notices; rows wait in memory, or are counted",
        _while_rows_wait(_spool_is_a_file),
    ),
    Fault(
        "a torn spool after a kill",
        ALWAYS,
        "what is whole is written; a torn end costs its last write, which a kill may leave so",
        _torn_spool,
        None,
        3,
    ),
)

LASTING = (Lasting("the spool's folder removed", ONE, _spool_gone),)

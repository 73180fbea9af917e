"""A spool that is gone or torn, and rows that nobody takes for a while. Disks that fail are in `disks.py`."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.fault import Fault, State, While, lasting
from tests.faults.processes import ALWAYS, ONE, STORE
from tests.faults.scene import Scene, signal_process


@contextmanager
def _clickhouse_away(scene: Scene) -> Iterator[None]:
    """Every store is killed that comes, so that rows go to disk."""
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.2):
            for store in scene.mixer.children(STORE):
                signal_process(store, signal.SIGKILL)

    killing = threading.Thread(target=kill)
    killing.start()
    try:
        yield
    finally:
        over.set()
        killing.join()


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


def _while_rows_wait(wrong: State) -> While:
    @contextmanager
    def state(scene: Scene) -> Iterator[None]:
        with wrong(scene), _clickhouse_away(scene):
            time.sleep(1.0)
            yield

    return lasting(state, 5.0)


def _torn_spool(scene: Scene) -> None:
    """Mixer is killed while rows wait on disk, and the end of a file is torn off."""
    lasting(_clickhouse_away, 6.0)(scene)
    signal_process(scene.mixer.running.pid, signal.SIGKILL)
    scene.mixer.running.wait(180)
    time.sleep(1.0)
    for file in sorted(Path(scene.folder, "spool").rglob("*"))[:2]:
        if file.is_file() and file.stat().st_size > 64:
            with file.open("r+b") as torn:
                torn.truncate(file.stat().st_size - 7)
    scene.mixer.start()


_NO_SINK = frozenset({"shutdown"})
"""ClickHouse takes no rows, nor can they be spooled, when mixer has to end."""

FAULTS = (
    Fault(
        "ClickHouse away for six seconds",
        ONE,
        "no call notices; rows wait, and are written once",
        lasting(_clickhouse_away, 6.0),
    ),
    Fault(
        "the spool's folder removed",
        ONE,
        "no call notices; rows wait in memory, or are counted",
        _while_rows_wait(_spool_gone),
        ending=_NO_SINK,
    ),
    Fault(
        "the spool's folder replaced by a file",
        ONE,
        "no call notices; rows wait in memory, or are counted",
        _while_rows_wait(_spool_is_a_file),
        ending=_NO_SINK,
    ),
    Fault(
        "a torn spool after a kill",
        ALWAYS,
        "what is whole is written; a torn end costs its last write, which a kill may leave so",
        _torn_spool,
        None,
        3,
        unbooked=True,
    ),
)

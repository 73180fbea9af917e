"""The folder that the processes of one mixer share: tables, orders and the store's socket, for this user's eyes only.

In memory where the machine has that. A mixer that was killed cannot remove its own; the next one does.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mixer_py.errors import ProcessError

PARENTS = (Path("/dev/shm"), Path("/tmp"))  # noqa: S108 (the folder within is made 0700, under a name nobody can guess)
_PREFIX = "mixer-"
_LOCK = "lock"


@contextmanager
def private_folder(parents: Sequence[Path] = PARENTS) -> Iterator[Path]:
    """A new folder, removed at the end; those that killed mixers left are removed at the beginning.

    Raises:
        ProcessError: none of the parents can be written.
    """
    for parent in parents:
        _sweep(parent)
    folder, lock = _make(parents)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def _make(parents: Sequence[Path]) -> tuple[Path, IO[bytes]]:
    faults = []
    for parent in parents:
        folder = parent / f"{_PREFIX}{os.getuid()}-{secrets.token_hex(8)}"
        try:
            folder.mkdir(mode=0o700)
            lock = (folder / _LOCK).open("xb")
        except OSError as error:
            faults.append(str(error))
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)  # held until this process ends, however it ends
        return folder, lock
    raise ProcessError(f"no folder for the processes of mixer: {'; '.join(faults)}")


def _sweep(parent: Path) -> None:
    """Removes folders of this user whose lock nobody holds."""
    for folder in parent.glob(f"{_PREFIX}{os.getuid()}-*"):
        try:
            with (folder / _LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # in use, just being made, or not one of ours
        shutil.rmtree(folder, ignore_errors=True)

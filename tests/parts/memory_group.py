"""A control group of memory, as a container has one: the kernel kills what takes more than its limit."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_SECONDS = 10.0
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class _Kind:
    """Where groups are made, and the files of their limit and of what they have: of cgroup v2, or of v1."""

    folder: Path
    limit: str
    usage: str


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """A group of processes, and those that they start."""

    folder: Path
    kind: _Kind

    def hold_to(self, more: int) -> None:
        """From now on they have so many bytes beyond what was taken in the group."""
        taken = int((self.folder / self.kind.usage).read_text(encoding="ascii"))
        (self.folder / self.kind.limit).write_text(str(taken + more), encoding="ascii")


def why_none() -> str:
    """Why no group can be made here; empty when one can."""
    try:
        folder = _made(_kind())
    except OSError as error:
        return f"no control group of memory can be made here: {error}"
    folder.rmdir()
    return ""


@contextmanager
def memory_group(pids: Iterable[int]) -> Iterator[MemoryGroup]:
    """Puts processes, and those that they start, into a group for as long as the block takes.

    Raises:
        OSError: no group can be made here.
    """
    kind = _kind()
    folder = _made(kind)
    try:
        for pid in pids:
            _move(pid, folder)  # what they have stays charged to the group that they come from
        yield MemoryGroup(folder, kind)
    finally:
        (folder / kind.limit).write_text("max" if kind.limit == "memory.max" else "-1", encoding="ascii")
        _remove(folder, kind.folder)


def _kind() -> _Kind:
    if (_ROOT / "cgroup.controllers").exists():
        controllers = _ROOT / "cgroup.subtree_control"
        if "memory" not in controllers.read_text(encoding="ascii").split():
            controllers.write_text("+memory", encoding="ascii")
        return _Kind(_ROOT, "memory.max", "memory.current")
    return _Kind(_ROOT / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes")


def _made(kind: _Kind) -> Path:
    folder = kind.folder / f"mixer-test-{os.getpid()}-{next(_numbers)}"
    folder.mkdir()
    if not (folder / kind.limit).exists():
        folder.rmdir()
        raise OSError(f"{folder} would have no {kind.limit}")
    return folder


def _move(pid: int, folder: Path) -> None:
    with suppress(ProcessLookupError):  # it has just ended
        (folder / "cgroup.procs").write_text(str(pid), encoding="ascii")


def _remove(folder: Path, parent: Path) -> None:
    """A group can go when it is empty: what was started meanwhile may be a moment late."""
    end = time.monotonic() + _SECONDS
    while True:
        for pid in (folder / "cgroup.procs").read_text(encoding="ascii").split():
            _move(int(pid), parent)
        try:
            return folder.rmdir()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)

"""Disks that are small, or that fail: a real file system of some megabytes, and writes that end in a chosen error."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.parts.shims import compiled

SHIM = Path(__file__).with_name("faulty_disk.c")


class SmallDisk:
    """A file system of its own in memory, mounted at a folder; needs root.

    Attributes:
        path: where it is mounted.
    """

    def __init__(self, path: Path, size: str) -> None:
        path.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=True)
        self.path = path

    @property
    def free(self) -> int:
        """Bytes that are left."""
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize

    def resize(self, size: str) -> None:
        """Makes it larger, or smaller."""
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.path)], check=True)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Somebody else's file takes all that is left, for as long as the block takes."""
        other = self.path / "somebody-elses"
        with other.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 4096)
        try:
            yield
        finally:
            other.unlink()

    def close(self) -> None:
        """Unmounts it; what is open on it stays until it is closed."""
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)


class FaultyDisk:
    """Writes below a folder that fail on demand, in every process that is started with `environment`; needs gcc."""

    def __init__(self, work: Path) -> None:
        self._library = compiled(SHIM, work)
        self._order = work / "faulty_disk"

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process has to be started with."""
        return {"LD_PRELOAD": str(self._library), "FAULTY_DISK": str(self._order)}

    @contextmanager
    def failing(self, folder: Path, error: int) -> Iterator[None]:
        """Writes below the folder end with this errno, for as long as the block takes."""
        draft = self._order.with_suffix(".draft")
        draft.write_text(f"{error} {folder}\n", encoding="utf-8")
        draft.rename(self._order)
        try:
            yield
        finally:
            self._order.unlink()

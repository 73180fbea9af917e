"""Names that were removed from a folder for a moment or for good, as the kernel tells of them (inotify(7))."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DELETED = 0x200
_EVENT = struct.Struct("iIII")
_LIBRARY = ctypes.CDLL(None, use_errno=True)


class Removed:
    """What was removed from a folder since it is watched; a name that something else was renamed over is not."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def names(self) -> list[str]:
        """Those since the last call."""
        found = []
        try:
            events = os.read(self._descriptor, 1 << 16)
        except BlockingIOError:
            return []
        while events:
            *_, length = _EVENT.unpack_from(events)
            found.append(events[_EVENT.size : _EVENT.size + length].rstrip(b"\0").decode())
            events = events[_EVENT.size + length :]
        return found


@contextmanager
def removed_from(folder: Path) -> Iterator[Removed]:
    """Watches a folder."""
    descriptor = _LIBRARY.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert descriptor >= 0, os.strerror(ctypes.get_errno())
    try:
        assert _LIBRARY.inotify_add_watch(descriptor, os.fsencode(folder), _DELETED) >= 0
        yield Removed(descriptor)
    finally:
        os.close(descriptor)

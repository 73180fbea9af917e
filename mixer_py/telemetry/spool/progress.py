"""How far a segment is done: which of its bytes went into which block, and which blocks are written elsewhere.

A step is of one length and has a checksum, so one that is damaged costs itself; those behind it say as much. The
first ones have their room from the beginning: where rows fill a disk, sending them is what frees it, and that has to be
noted.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

SUFFIX: Final = ".progress"
"""What is put behind a segment's name for the name of its progress."""
_STEP: Final = struct.Struct("<BII16sI")  # begun or done, from which byte to which, token, checksum of these four
_ROOM: Final = 4096
"""Bytes that are kept free for steps: those of 62 blocks, which is more than most segments become."""


class Step(NamedTuple):
    """Something that happened to a block.

    Attributes:
        done: it is written; else it was begun.
        first: where its first record begins in the segment.
        end: where its last one ends.
        token: names it.
    """

    done: bool
    first: int
    end: int
    token: str


class Progress:
    """The steps of one segment."""

    def __init__(self, segment: Path, *, new: bool) -> None:
        """Opens the file beside a segment.

        Raises:
            OSError: it cannot be written, or a new one has no room.
        """
        self.path = Path(f"{segment}{SUFFIX}")
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._end = 0
        self._unwritten = b""
        if not new:
            return
        try:
            os.posix_fallocate(self._file, 0, _ROOM)
        except OSError:
            os.close(self._file)
            self.path.unlink(missing_ok=True)
            raise

    def read(self) -> Iterator[Step]:
        """The steps that can be read; further ones are then written behind them."""
        noted = os.pread(self._file, os.fstat(self._file).st_size, 0)
        for place in range(0, len(noted) - _STEP.size + 1, _STEP.size):
            kind, first, end, token, checksum = _STEP.unpack_from(noted, place)
            if kind <= 1 and first < end and zlib.crc32(noted[place : place + _STEP.size - 4]) == checksum:
                self._end = place + _STEP.size
                yield Step(bool(kind), first, end, token.hex())

    def begin(self, first: int, end: int, token: str) -> None:
        """Notes that a block is begun.

        Raises:
            OSError: that is not noted.
        """
        before = self._unwritten
        try:
            self._note(Step(done=False, first=first, end=end, token=token))
        except OSError:
            self._unwritten = before
            raise

    def finish(self, first: int, end: int, token: str) -> None:
        """Notes that a block is done.

        Raises:
            OSError: that is not noted yet; it is with the next step.
        """
        self._note(Step(done=True, first=first, end=end, token=token))

    def close(self) -> None:
        """Lets go of the file."""
        with contextlib.suppress(OSError):
            self._write()
        os.close(self._file)

    def remove(self) -> None:
        """Closes and deletes it."""
        os.close(self._file)
        self.path.unlink(missing_ok=True)

    def _note(self, step: Step) -> None:
        fields = (step.done, step.first, step.end, bytes.fromhex(step.token))
        self._unwritten += _STEP.pack(*fields, zlib.crc32(_STEP.pack(*fields, 0)[:-4]))
        self._write()

    def _write(self) -> None:
        write_at(self._file, self._unwritten, self._end)
        self._end += len(self._unwritten)
        self._unwritten = b""


def write_at(file: int, content: bytes, offset: int) -> None:
    """Writes all of it.

    Raises:
        OSError: perhaps after a part of it.
    """
    left = memoryview(content)
    while left:
        written = os.pwrite(file, left, offset)
        left, offset = left[written:], offset + written

"""The rows of one table that wait on disk, oldest first, within a bound.

Each process writes into a folder of its own, which it holds locked. The folder of a process that ended is taken over
by the next one that looks: its rows are older than any that come, and keep their order.
Its calls wait for the disk: they belong into a thread. Not for: what a segment looks like (`segments.py`).
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow as pa

from mixer_py.errors import SpoolError
from mixer_py.telemetry.spool import progress
from mixer_py.telemetry.spool.segments import Block, Segment

SUFFIX: Final = ".segment"
DAMAGED: Final = ".damaged"
"""What is put behind the name of a file that cannot be read; nobody looks at it again but people."""
_LOCK: Final = "lock"
_UNFINISHED: Final = ".new-"
"""How the name of a folder begins that is being made."""
_SEGMENTS: Final = 8
"""Into so many files, at least, a full spool is divided: as much of it is dropped when there is no more room."""
_LARGEST_SEGMENT: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """What was taken over from processes that ended.

    Attributes:
        ours: rows by table that a process of this mixer's life had received.
        earlier: rows by table of a mixer that ran before.
        faults: files that cannot be read, with the reason.
    """

    ours: dict[str, int] = field(default_factory=dict)
    earlier: dict[str, int] = field(default_factory=dict)
    faults: tuple[str, ...] = ()


class SpoolFolder:
    """The folder of one process, locked, with the spools of all tables in it."""

    def __init__(self, directory: Path, life: str, tables: tuple[str, ...], most_bytes: int) -> None:
        """Makes the folder.

        Args:
            directory: of all processes.
            life: names this run of the mixer; letters, digits and `-`.
            tables: names of the tables.
            most_bytes: of each table's rows.

        Raises:
            OSError: it cannot be made.
        """
        self._directory = directory
        self._life = life
        self._locks: dict[Path, int] = {}
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = directory / f"{_UNFINISHED}{secrets.token_hex(8)}"  # nobody claims it before it is locked
        unfinished.mkdir(mode=0o700)
        path = self._claim(unfinished)
        if path is None:
            raise BlockingIOError(f"{unfinished} was taken by somebody else as soon as it was made")
        self.spools = {name: Spool(name, path, most_bytes) for name in tables}

    def take_over(self) -> Found:
        """Takes over the folders of processes that ended."""
        ours: dict[str, int] = {}
        earlier: dict[str, int] = {}
        faults: list[str] = []
        for path in sorted(self._directory.iterdir()):
            if path in self._locks or path.name.startswith(_UNFINISHED) or not path.is_dir():
                continue
            try:
                folder = self._claim(path)
            except OSError as error:
                faults.append(f"{path}: {error}")
                continue
            rows = ours if path.name.partition(".")[0] == self._life else earlier
            for file in sorted(folder.glob(f"*{SUFFIX}")) if folder is not None else ():
                table = file.name.partition("-")[0]
                try:
                    segment = self._take_over(table, file)
                    rows[table] = rows.get(table, 0) + segment.rows
                    if segment.lost:
                        faults.append(f"{segment.path}: {segment.lost} bytes are damaged, in which there were rows")
                except (SpoolError, OSError) as error:
                    faults.append(str(error))
                    _set_aside(file)
        return Found(ours, earlier, tuple(faults))

    def _claim(self, path: Path) -> Path | None:
        """Locks the folder of a process that ended and makes it one of our life; None when somebody has it.

        Raises:
            OSError: it cannot be used.
        """
        lock = _lock(path)
        if lock is None:
            return None
        try:
            folder = path.rename(self._new_folder())
        except OSError:
            os.close(lock)
            raise
        self._locks[folder] = lock
        return folder

    def _new_folder(self) -> Path:
        return self._directory / f"{self._life}.{secrets.token_hex(8)}"

    def _take_over(self, table: str, file: Path) -> Segment:
        if table not in self.spools:
            raise SpoolError(f"{file}: there is no table {table}")
        return self.spools[table].take_over(file)

    def close(self) -> None:
        """Lets go of everything; what is empty is removed."""
        for spool in self.spools.values():
            spool.close()
        for path, lock in self._locks.items():
            if {file.name for file in path.iterdir()} <= {_LOCK}:
                shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
        self._locks.clear()


class Spool:
    """Rows of one table.

    Attributes:
        rows: that wait, those of blocks on their way included.
        bytes: that they take on disk.
    """

    def __init__(self, table: str, folder: Path, most_bytes: int) -> None:
        self.rows = 0
        self.bytes = 0
        self._table = table
        self._folder = folder
        self._most_bytes = most_bytes
        self._largest = min(most_bytes // _SEGMENTS, _LARGEST_SEGMENT)
        self._segments: deque[Segment] = deque()
        self._writing: Segment | None = None
        self._sending: Segment | None = None

    @property
    def full(self) -> bool:
        """Whether there is no more room."""
        return self.bytes >= self._most_bytes

    def append(self, batch: pa.RecordBatch, *, evict: bool = True) -> int:
        """Adds rows behind all others.

        Args:
            batch: the rows.
            evict: drop the oldest above the bound; else these rows may pass it.

        Returns:
            How many of the oldest rows were dropped for want of room.

        Raises:
            OSError: they were not added.
        """
        try:
            self._append(batch)
        except OSError:
            done = self._writing
            if done is None or not done.done:
                raise
            self._drop(done)  # on a full disk rows that are written elsewhere must not be what takes the room
            self._append(batch)
        return self._make_room() if evict else 0

    def append_begun(self, batch: pa.RecordBatch, token: str) -> int:
        """Adds the rows of a block that was tried already: before all others, and with its token.

        Returns:
            How many of the oldest rows were dropped for want of room.

        Raises:
            OSError: they were not added.
        """
        segment = Segment.create(self._new_path(first=True), batch.schema)
        try:
            segment.append(batch)
            segment.take(len(batch), 0, token)
        except OSError:
            segment.remove()
            raise
        self._segments.appendleft(segment)
        self.bytes += segment.size
        self.rows += len(batch)
        return self._make_room()

    def take(self, rows: int, size: int, token: str) -> Block | None:
        """The oldest block: one that was begun before, with its token, or a new one.

        Args:
            rows: a new block ends with the record that reaches so many.
            size: or so many bytes.
            token: names a new block.

        Returns:
            None when nothing waits.

        Raises:
            OSError: the disk failed.
        """
        while self._segments:
            block = self._segments[0].take(rows, size, token)
            if block is not None:
                self._sending = block.segment
                return block
            self._drop(self._segments[0])
        return None

    def finish(self, block: Block) -> None:
        """Counts a block as done.

        Raises:
            OSError: that could not be noted, so that after a restart it may be sent again, with its token.
        """
        self._sending = None
        self.rows -= block.rows
        try:
            block.segment.finish(block)
        finally:
            if block.segment.done and block.segment is not self._writing:
                self._drop(block.segment)

    def take_over(self, file: Path) -> Segment:
        """Takes over a file of another process; the rows that wait in it come before all that are younger.

        Raises:
            SpoolError: it cannot be read.
            OSError: the disk failed.
        """
        segment = Segment.read(file)
        place = sum(other.path.name < file.name for other in self._segments)
        self._segments.insert(place, segment)
        self.rows += segment.rows
        self.bytes += segment.size
        return segment

    def close(self) -> None:
        """Lets go of the files; what is done is removed."""
        for segment in list(self._segments):
            if segment.done:
                self._drop(segment)
            else:
                segment.close()
        self._segments.clear()

    def _append(self, batch: pa.RecordBatch) -> None:
        segment = self._writing
        if segment is None or segment.size >= self._largest or segment.schema != batch.schema:
            segment = Segment.create(self._new_path(), batch.schema)
            self._segments.append(segment)
            self._writing = segment
            self.bytes += segment.size
        before = segment.size
        segment.append(batch)
        self.bytes += segment.size - before
        self.rows += len(batch)

    def _new_path(self, *, first: bool = False) -> Path:
        moment = time.time_ns()
        if first and self._segments:
            moment = int(self._segments[0].path.name.split("-")[1]) - 1
        return self._folder / f"{self._table}-{moment:020d}-{secrets.token_hex(4)}{SUFFIX}"

    def _make_room(self) -> int:
        """Drops the oldest segments above the bound, but for those that are written or sent from."""
        dropped = 0
        for segment in list(self._segments):
            if self.bytes <= self._most_bytes:
                break
            if segment is not self._sending and segment is not self._writing:
                dropped += segment.rows
                self._drop(segment)
        return dropped

    def _drop(self, segment: Segment) -> None:
        self._segments.remove(segment)
        if segment is self._writing:
            self._writing = None
        self.rows -= segment.rows
        self.bytes -= segment.size
        segment.remove()


def _lock(folder: Path) -> int | None:
    """Locks a folder until its descriptor is closed, at the latest with this process; None when another one has it.

    Raises:
        OSError: it cannot be locked.
    """
    try:
        file = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:  # another process has given it a name of its own
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    except OSError:
        os.close(file)
        raise
    return file


def _set_aside(file: Path) -> None:
    """Keeps a file that cannot be read, for people, and out of the way."""
    try:
        file.rename(f"{file}{DAMAGED}")
        Path(f"{file}{progress.SUFFIX}").unlink(missing_ok=True)
    except OSError:
        return  # it is looked at again when the next process takes over

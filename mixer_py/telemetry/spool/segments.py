"""One file of rows that wait: written at its end, read from its beginning, and removed when all were written elsewhere.

A segment is a header with the rows' Arrow schema, and records: rows, length, checksum, and the rows as one Arrow IPC
message. Beside it stands its progress: which records went into which block, and which blocks are done. So a block that
was on its way when the process was killed is sent again with the same rows and the same token.

A record that was cut off by a kill or a full disk ends the segment: nobody was told that its rows were kept. One whose
checksum is wrong costs its own rows.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa

from mixer_py.errors import SpoolError

MAGIC: Final = b"mixer-spool-1\n"
PROGRESS: Final = ".progress"
"""What is put behind a segment's name for the name of its progress."""
_HEAD: Final = struct.Struct("<II")  # length and checksum of the schema
_RECORD: Final = struct.Struct("<IIII")  # rows, length of the body, its checksum, checksum of these three
_STEP: Final = struct.Struct("<BII16sI")  # begun or done, first and last record, token, checksum of these four
_BEGUN: Final = 0
_DONE: Final = 1


class Record(NamedTuple):
    """Where the rows of one record stand in the file.

    Attributes:
        offset: of the body, in bytes.
        length: of the body, in bytes.
        rows: how many.
        checksum: CRC-32 of the body.
    """

    offset: int
    length: int
    rows: int
    checksum: int


@dataclass(frozen=True, slots=True)
class Block:
    """Records that are written elsewhere together.

    Attributes:
        segment: where they stand.
        first: number of the first record.
        last: number of the last one.
        token: names the block.
        batches: their rows, without those that were damaged.
        rows: how many rows they were, the damaged included.
    """

    segment: Segment
    first: int
    last: int
    token: str
    batches: tuple[pa.RecordBatch, ...]
    rows: int

    @property
    def damaged(self) -> int:
        """Rows whose checksum was wrong."""
        return self.rows - sum(map(len, self.batches))


class Segment:
    """One file of a spool, with its progress.

    Attributes:
        path: of the file.
        schema: of its rows.
        size: bytes of the file.
        rows: that are not done.
    """

    def __init__(self, path: Path, schema: pa.Schema, size: int, records: list[Record]) -> None:
        """Use `create` or `read`."""
        self.path = path
        self.schema = schema
        self.size = size
        self.rows = sum(record.rows for record in records)
        self._records = records
        self._next = 0
        self._begun: tuple[int, str] | None = None
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._progress = os.open(f"{path}{PROGRESS}", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError:
            os.close(self._file)
            raise

    @classmethod
    def create(cls, path: Path, schema: pa.Schema) -> Segment:
        """A new, empty segment.

        Raises:
            OSError: it cannot be written; nothing of it is left.
        """
        body = schema.serialize().to_pybytes()
        head = MAGIC + _HEAD.pack(len(body), zlib.crc32(body)) + body
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write_at(file, head, 0)
            return cls(path, schema, len(head), [])
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)

    @classmethod
    def read(cls, path: Path) -> Segment:
        """A segment that another process left; what its progress calls done is not in it any more.

        Raises:
            SpoolError: it is none.
            OSError: it cannot be read.
        """
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise SpoolError(f"{path} is no segment of a spool")
            try:
                length, checksum = _HEAD.unpack(file.read(_HEAD.size))
                body = file.read(length)
                if zlib.crc32(body) != checksum:
                    raise SpoolError(f"{path}: its header is damaged")
                schema = pa.ipc.read_schema(pa.py_buffer(body))
            except (struct.error, pa.ArrowException) as error:
                raise SpoolError(f"{path}: its header is damaged: {error}") from error
            end = file.seek(0, os.SEEK_END)
            records = list(_records(file.fileno(), len(MAGIC) + _HEAD.size + length, end))
        size = records[-1].offset + records[-1].length if records else len(MAGIC) + _HEAD.size + length
        segment = cls(path, schema, size, records)
        segment._catch_up()
        return segment

    @property
    def done(self) -> bool:
        """Whether every row is done."""
        return self._next >= len(self._records)

    def append(self, batch: pa.RecordBatch) -> None:
        """Adds rows.

        Raises:
            OSError: they are not in it, and it can be tried again.
        """
        body = batch.serialize().to_pybytes()
        fields = (len(batch), len(body), zlib.crc32(body))
        head = _RECORD.pack(*fields, zlib.crc32(_RECORD.pack(*fields, 0)[:-4]))
        try:
            _write_at(self._file, head + body, self.size)
        except OSError:
            os.ftruncate(self._file, self.size)
            raise
        self._records.append(Record(self.size + _RECORD.size, len(body), len(batch), fields[2]))
        self.size += _RECORD.size + len(body)
        self.rows += len(batch)

    def take(self, rows: int, size: int, token: str) -> Block | None:
        """The next rows: those of a block that was begun before with its token, else of a new one.

        Args:
            rows: a new block ends with the record that reaches so many.
            size: or so many bytes.
            token: names a new block; 32 hexadecimal digits.

        Returns:
            None when every row is done.

        Raises:
            OSError: it cannot be read, or the new block's begin not be kept.
        """
        if self.done:
            return None
        first = self._next
        if self._begun is None:
            last, taken, length = first, self._records[first].rows, self._records[first].length
            while last + 1 < len(self._records) and taken < rows and length < size:
                last += 1
                taken += self._records[last].rows
                length += self._records[last].length
            self._note(_BEGUN, first, last, token)
            self._begun = (last, token)
        last, token = self._begun
        records = self._records[first : last + 1]
        found = (self._batch(record) for record in records)
        batches = tuple(batch for batch in found if batch is not None)
        return Block(self, first, last, token, batches, sum(record.rows for record in records))

    def finish(self, block: Block) -> None:
        """Counts a block as done."""
        self._note(_DONE, block.first, block.last, block.token)
        self._next = block.last + 1
        self._begun = None
        self.rows -= block.rows

    def close(self) -> None:
        """Lets go of the files."""
        os.close(self._file)
        os.close(self._progress)

    def remove(self) -> None:
        """Closes and deletes it, the rows first: a progress without rows is nothing."""
        self.close()
        self.path.unlink(missing_ok=True)
        Path(f"{self.path}{PROGRESS}").unlink(missing_ok=True)

    def _batch(self, record: Record) -> pa.RecordBatch | None:
        body = os.pread(self._file, record.length, record.offset)
        if len(body) != record.length or zlib.crc32(body) != record.checksum:
            return None
        return pa.ipc.read_record_batch(pa.py_buffer(body), self.schema)

    def _note(self, kind: int, first: int, last: int, token: str) -> None:
        fields = (kind, first, last, bytes.fromhex(token))
        step = _STEP.pack(*fields, zlib.crc32(_STEP.pack(*fields, 0)[:-4]))
        if os.write(self._progress, step) != len(step):
            raise OSError(f"{self.path}{PROGRESS}: a step was written in part")

    def _catch_up(self) -> None:
        """Reads the progress; what is cut off at its end, or damaged, ends it."""
        noted = os.pread(self._progress, os.fstat(self._progress).st_size, 0)
        good = 0
        for kind, first, last, token, checksum in _STEP.iter_unpack(noted[: len(noted) // _STEP.size * _STEP.size]):
            known = first == self._next and first <= last < len(self._records)
            if not known or zlib.crc32(_STEP.pack(kind, first, last, token, 0)[:-4]) != checksum:
                break
            good += _STEP.size
            if kind == _BEGUN:
                self._begun = (last, token.hex())
            else:
                self._next, self._begun = last + 1, None
        os.ftruncate(self._progress, good)
        self.rows = sum(record.rows for record in self._records[self._next :])


def _records(file: int, offset: int, end: int) -> Iterator[Record]:
    """The records from an offset on, up to the first one that is cut off or whose own numbers are damaged."""
    while offset + _RECORD.size <= end:
        head = os.pread(file, _RECORD.size, offset)
        rows, length, checksum, own = _RECORD.unpack(head)
        offset += _RECORD.size
        if zlib.crc32(head[:-4]) != own or offset + length > end:
            return
        yield Record(offset, length, rows, checksum)
        offset += length


def _write_at(file: int, content: bytes, offset: int) -> None:
    """Writes all of it.

    Raises:
        OSError: perhaps after a part of it.
    """
    left = memoryview(content)
    while left:
        written = os.pwrite(file, left, offset)
        left, offset = left[written:], offset + written

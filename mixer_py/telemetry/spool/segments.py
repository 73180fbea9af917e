"""One file of rows that wait: written at its end, read from its beginning, and removed when all were written elsewhere.

A segment is a header with the rows' Arrow schema, and records: rows, length, checksum, and the rows as one Arrow IPC
message. Beside it stands its progress (`progress.py`). So a block that was on its way when the process was killed is
sent again with the same rows and the same token.

A record that was cut off by a kill or a full disk ends the segment: nobody was told that its rows were kept. One whose
checksum is wrong costs its own rows. Where a record's own numbers are damaged, the next good record is looked for;
checksums begin with a number that is drawn for each segment, so that nothing that rows hold can be taken for a record.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa

from mixer_py.errors import SpoolError
from mixer_py.telemetry.spool.progress import Progress, write_at

MAGIC: Final = b"mixer-spool-2\n"
_ANY_VERSION: Final = b"mixer-spool-"
"""How a segment of any version begins."""
_HEAD: Final = struct.Struct("<III")  # length and checksum of the schema, what checksums of records begin with
_RECORD: Final = struct.Struct("<IIII")  # rows, length of the body, its checksum, checksum of these three
_STRIDE: Final = 8
"""Arrow's messages are filled up to as many bytes, so records begin no closer to one another."""


class Record(NamedTuple):
    """Where the rows of one record stand in the file.

    Attributes:
        offset: of the body, in bytes.
        length: of the body, in bytes.
        rows: how many.
        checksum: of the body.
    """

    offset: int
    length: int
    rows: int
    checksum: int

    @property
    def begin(self) -> int:
        """Where it begins, its own numbers included."""
        return self.offset - _RECORD.size

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Block:
    """Records that are written elsewhere together.

    Attributes:
        segment: where they stand.
        first: where the first record begins.
        end: where the last one ends.
        token: names the block.
        batches: their rows, without those that were damaged.
        rows: how many rows they were, the damaged included.
    """

    segment: Segment
    first: int
    end: int
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
        lost: bytes in which there were records that cannot be told any more.
    """

    def __init__(
        self, path: Path, schema: pa.Schema, size: int, salt: int, records: list[Record], progress: Progress
    ) -> None:
        """Use `create` or `read`."""
        self.path = path
        self.schema = schema
        self.size = size
        self.rows = sum(record.rows for record in records)
        self.lost = 0
        self._salt = salt
        self._records = records
        self._progress = progress
        self._next = 0
        self._begun: tuple[int, str] | None = None
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    @classmethod
    def create(cls, path: Path, schema: pa.Schema) -> Segment:
        """A new, empty segment.

        Raises:
            OSError: it cannot be written; nothing of it is left.
        """
        body = schema.serialize().to_pybytes()
        salt = secrets.randbits(32)
        head = MAGIC + _HEAD.pack(len(body), zlib.crc32(body), salt) + body
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            write_at(file, head, 0)
            return cls(path, schema, len(head), salt, [], Progress(path, new=True))
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
        content = path.read_bytes()
        if not content.startswith(MAGIC):
            if content.startswith(_ANY_VERSION):
                form = content[: len(MAGIC)].decode(errors="replace").strip()
                raise SpoolError(f"{path} has the form {form} of another version of mixer, which can write its rows")
            raise SpoolError(f"{path} is no segment of a spool")
        try:
            length, checksum, salt = _HEAD.unpack_from(content, len(MAGIC))
            begin = len(MAGIC) + _HEAD.size + length
            body = content[begin - length : begin]
            if len(body) != length or zlib.crc32(body) != checksum:
                raise SpoolError(f"{path}: its header is damaged")
            schema = pa.ipc.read_schema(pa.py_buffer(body))
        except (struct.error, pa.ArrowException) as error:
            raise SpoolError(f"{path}: its header is damaged: {error}") from error
        records, lost = _records(content, begin, salt)
        progress = Progress(path, new=False)
        segment = cls(path, schema, records[-1].end if records else begin, salt, records, progress)
        segment.lost = lost
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
        fields = (len(batch), len(body), zlib.crc32(body, self._salt))
        head = _RECORD.pack(*fields, zlib.crc32(_RECORD.pack(*fields, 0)[:-4], self._salt))
        try:
            write_at(self._file, head + body, self.size)
        except OSError:
            with contextlib.suppress(OSError):  # the next record is written over it
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
            self._progress.begin(self._records[first].begin, self._records[last].end, token)
            self._begun = (self._records[last].end, token)
        end, token = self._begun
        records = self._records[first : self._behind(end)]
        found = (self._batch(record) for record in records)
        batches = tuple(batch for batch in found if batch is not None)
        return Block(self, records[0].begin, end, token, batches, sum(record.rows for record in records))

    def finish(self, block: Block) -> None:
        """Counts a block as done.

        Raises:
            OSError: it is, but that is not on disk yet: when this process is killed before the next step, the block is
                sent again with its token.
        """
        self._next, self._begun = self._behind(block.end), None
        self.rows -= block.rows
        self._progress.finish(block.first, block.end, block.token)

    def close(self) -> None:
        """Lets go of the files."""
        os.close(self._file)
        self._progress.close()

    def remove(self) -> None:
        """Closes and deletes it, the rows first: a progress without rows is nothing."""
        os.close(self._file)
        self.path.unlink(missing_ok=True)
        self._progress.remove()

    def _behind(self, end: int) -> int:
        """The number of the first record that ends behind a place."""
        number = self._next
        while number < len(self._records) and self._records[number].end <= end:
            number += 1
        return number

    def _batch(self, record: Record) -> pa.RecordBatch | None:
        """The rows of a record; None when they are damaged, or stand where the disk cannot be read.

        Raises:
            OSError: it may be read another time.
        """
        try:
            body = os.pread(self._file, record.length, record.offset)
        except OSError as error:
            if error.errno == errno.EIO:
                return None
            raise
        if len(body) != record.length or zlib.crc32(body, self._salt) != record.checksum:
            return None
        return pa.ipc.read_record_batch(pa.py_buffer(body), self.schema)

    def _catch_up(self) -> None:
        """Reads the progress; a step that is damaged is made up for by those behind it."""
        for step in self._progress.read():
            self._next = self._behind(step.end if step.done else step.first)
            self._begun = None if step.done or self._behind(step.end) == self._next else (step.end, step.token)
        self.rows = sum(record.rows for record in self._records[self._next :])


def _records(content: bytes, offset: int, salt: int) -> tuple[list[Record], int]:
    """The records of a segment from an offset on, and how many bytes between and behind them were some once."""
    records: list[Record] = []
    lost = 0
    while offset + _RECORD.size <= len(content):
        record = _record(content, offset, salt)
        if record is None:
            torn = _own_numbers(content, offset, salt) is not None
            found = next(
                (place for place in range(offset + _STRIDE, len(content), _STRIDE) if _is_whole(content, place, salt)),
                len(content),
            )
            lost += 0 if torn and found == len(content) else found - offset
            offset = found
        else:
            records.append(record)
            offset = record.end
    return records, lost


def _own_numbers(content: bytes, offset: int, salt: int) -> Record | None:
    """What stands before a record's rows; None where there is no record, or its numbers are damaged."""
    if offset + _RECORD.size > len(content):
        return None
    rows, length, checksum, own = _RECORD.unpack_from(content, offset)
    if zlib.crc32(content[offset : offset + _RECORD.size - 4], salt) != own:
        return None
    return Record(offset + _RECORD.size, length, rows, checksum)


def _record(content: bytes, offset: int, salt: int) -> Record | None:
    """The record at an offset; None where there is none, or not all of it."""
    record = _own_numbers(content, offset, salt)
    return record if record is not None and record.end <= len(content) else None


def _is_whole(content: bytes, offset: int, salt: int) -> bool:
    """Whether a record with all of its rows stands at an offset where none has to."""
    record = _record(content, offset, salt)
    return record is not None and zlib.crc32(content[record.offset : record.end], salt) == record.checksum

"""Files of the spool, damaged: no row comes twice or out of order, and none is missing that nobody is told of."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from mixer_py.telemetry.spool import progress
from mixer_py.telemetry.spool.spool import SUFFIX, Found, SpoolFolder

SCHEMA = pa.schema([pa.field("row", pa.int64(), nullable=False), pa.field("text", pa.string(), nullable=False)])
RECORDS = ((0,), (1, 2), (3,), (4, 5, 6), (7,), (8, 9))
MANY = 1 << 30
SEGMENT, PROGRESS = 0, 1


def check(data: bytes) -> None:
    """How many blocks are done, whether one is begun, which file is damaged, and how: four bytes a change."""
    if len(data) < 2:
        return
    folder = Path(tempfile.mkdtemp(prefix="mixer-fuzz-"))
    try:
        done, which = data[0] % len(RECORDS), data[1] % 2
        ends = _write(folder, done, begun=bool(data[0] & 64))
        (segment,) = folder.glob(f"*/*{SUFFIX}")
        file = segment if which == SEGMENT else Path(f"{segment}{progress.SUFFIX}")
        whole = file.read_bytes()
        broken = _changed(whole, data[2:])
        file.write_bytes(broken)
        found, drained, damaged = _drain(folder)
    finally:
        shutil.rmtree(folder)
    undone = [row for record in RECORDS[done:] for row in record]
    assert drained == sorted(set(drained)), f"rows twice, or out of order: {drained}"
    assert set(drained) <= set(range(10)), f"rows that nobody wrote: {drained}"
    if which == PROGRESS:
        assert set(undone) <= set(drained), "damage to the progress has lost rows"
        return
    assert set(drained) <= set(undone), f"rows that were done came back: {drained}"
    for record, begin, end in zip(RECORDS, ends, ends[1:], strict=False):
        intact = broken[: ends[0]] == whole[: ends[0]] and broken[begin:end] == whole[begin:end]
        if record[0] in undone and intact:
            assert set(record) <= set(drained), f"a good record was lost: {drained}"
    if set(drained) != set(undone):
        torn = len(broken) < len(whole)
        assert found.faults or damaged or torn, "rows are missing, and nobody was told"


def _write(folder: Path, done: int, *, begun: bool) -> list[int]:
    """A process that ended with records in its spool of which some are done; where the records begin, and the end."""
    left = SpoolFolder(folder, "life", ("t",), MANY)
    spool, ends = left.spools["t"], []
    for record in RECORDS:
        batch = pa.RecordBatch.from_pydict({"row": list(record), "text": ["x" * 20] * len(record)}, schema=SCHEMA)
        spool.append(batch)
        ends.append(spool.bytes)
    for _ in range(done):
        block = spool.take(1, MANY, os.urandom(16).hex())
        assert block is not None
        spool.finish(block)
    if begun and done < len(RECORDS):
        spool.take(1, MANY, os.urandom(16).hex())
    first = ends[0] - (ends[2] - ends[1])  # records of one row are of one size
    left.close()
    return [first, *ends]


def _changed(content: bytes, changes: bytes) -> bytes:
    """A file after some bytes were flipped, cut off, taken out or put in."""
    changed = bytearray(content)
    for at in range(0, len(changes) - 3, 4):
        kind, value = changes[at] % 5, changes[at + 3]
        place = int.from_bytes(changes[at + 1 : at + 3], "big") % (len(changed) + 1)
        match kind:
            case 0 if place < len(changed):
                changed[place] ^= value
            case 1:
                del changed[place:]
            case 2:
                changed[place : place + value] = bytes(len(changed[place : place + value]))
            case 3:
                changed += changed[place : place + value]
            case 4 if place < len(changed):
                changed[place : place + 2] = bytes((value, value))[: len(changed) - place]
    return bytes(changed)


def _drain(folder: Path) -> tuple[Found, list[int], int]:
    """What the next process finds, the rows that it would write, and how many it would book as damaged."""
    following = SpoolFolder(folder, "life", ("t",), MANY)
    found = following.take_over()
    spool, drained, damaged = following.spools["t"], [], 0
    while (block := spool.take(2, MANY, os.urandom(16).hex())) is not None:
        drained += [row for batch in block.batches for row in batch.column("row").to_pylist()]
        damaged += block.damaged
        spool.finish(block)
    assert spool.rows == 0, f"{spool.rows} rows are left of an empty spool"
    following.close()
    return found, drained, damaged


def seeds() -> Iterator[bytes]:
    for done in (0, 2, 64 + 3, 5):
        for which in (SEGMENT, PROGRESS):
            yield bytes((done, which))
            yield bytes((done, which)) + b"\0\1\x90\xff"
            yield bytes((done, which)) + b"\1\3\0\0"
            yield bytes((done, which)) + b"\2\2\0\x40" + b"\3\2\0\x40"

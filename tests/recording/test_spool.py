"""Rows on disk: what was appended comes back in order and once, whatever was killed, cut off or damaged meanwhile."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixer_py.telemetry.spool.progress import SUFFIX as PROGRESS
from mixer_py.telemetry.spool.spool import DAMAGED, SUFFIX, Spool, SpoolFolder

SCHEMA = pa.schema([pa.field("row", pa.int64(), nullable=False), pa.field("text", pa.string(), nullable=False)])
MANY = 1 << 30


def rows(*numbers: int, text: str = "x") -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"row": list(numbers), "text": [text] * len(numbers)}, schema=SCHEMA)


def numbers(batches: tuple[pa.RecordBatch, ...]) -> list[int]:
    return [number for batch in batches for number in batch.column("row").to_pylist()]


def token(number: int) -> str:
    return f"{number:032x}"


def drain(spool: Spool, block_rows: int = 1) -> list[int]:
    """Everything, block by block."""
    drained: list[int] = []
    while (block := spool.take(block_rows, MANY, os.urandom(16).hex())) is not None:
        drained += numbers(block.batches)
        spool.finish(block)
    return drained


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[SpoolFolder]:
    folder = SpoolFolder(tmp_path / "spool", "life", ("t",), MANY)
    yield folder
    folder.close()


def left_by(tmp_path: Path, *batches: pa.RecordBatch, life: str = "life") -> Path:
    """The only segment of a process that ended with these rows in its spool."""
    folder = SpoolFolder(tmp_path / "spool", life, ("t",), MANY)
    for batch in batches:
        folder.spools["t"].append(batch)
    folder.close()
    (segment,) = (tmp_path / "spool").glob(f"{life}.*/*{SUFFIX}")
    return segment


def test_rows_come_back_in_order(folder: SpoolFolder) -> None:
    spool = folder.spools["t"]
    for number in range(10):
        assert spool.append(rows(number, number)) == 0
    assert spool.rows == 20
    assert drain(spool, block_rows=5) == [number for number in range(10) for _ in range(2)]
    assert spool.rows == 0


def test_a_block_ends_with_the_record_that_reaches_its_rows_or_its_bytes(folder: SpoolFolder) -> None:
    spool = folder.spools["t"]
    for number in range(6):
        spool.append(rows(number, number))
    block = spool.take(3, MANY, token(1))
    assert block is not None
    assert numbers(block.batches) == [0, 0, 1, 1]
    spool.finish(block)
    block = spool.take(MANY, 1, token(2))
    assert block is not None
    assert numbers(block.batches) == [2, 2]


def test_a_block_that_was_not_finished_is_the_same_again(folder: SpoolFolder) -> None:
    spool = folder.spools["t"]
    for number in range(6):
        spool.append(rows(number))
    first = spool.take(2, MANY, token(1))
    again = spool.take(5, MANY, token(2))
    assert first is not None
    assert again is not None
    assert (again.token, numbers(again.batches)) == (token(1), [0, 1])


def test_what_a_process_left_is_taken_over_with_its_blocks(tmp_path: Path) -> None:
    one = SpoolFolder(tmp_path, "life", ("t",), MANY)
    for number in range(9):
        one.spools["t"].append(rows(number))
    finished = one.spools["t"].take(2, MANY, token(1))
    assert finished is not None
    one.spools["t"].finish(finished)
    one.spools["t"].take(3, MANY, token(2))  # on its way when the process ends
    one.close()
    other = SpoolFolder(tmp_path, "life", ("t",), MANY)
    other.spools["t"].append(rows(100))
    assert other.take_over().ours == {"t": 7}
    block = other.spools["t"].take(1, MANY, token(3))
    assert block is not None
    assert (block.token, numbers(block.batches)) == (token(2), [2, 3, 4])
    other.spools["t"].finish(block)
    assert drain(other.spools["t"]) == [5, 6, 7, 8, 100]
    other.close()
    assert list(tmp_path.iterdir()) == []


def test_rows_of_an_earlier_run_are_told_apart_once(tmp_path: Path) -> None:
    left_by(tmp_path, rows(1, 2), life="before")
    for found in ({"t": 2}, {}):
        folder = SpoolFolder(tmp_path / "spool", "now", ("t",), MANY)
        assert folder.take_over().earlier == found
        folder.close()


def test_the_folder_of_a_process_that_lives_is_left_alone(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from pathlib import Path
        from tests.recording.test_spool import SpoolFolder, rows
        folder = SpoolFolder(Path({str(tmp_path)!r}), "life", ("t",), 1 << 30)
        folder.spools["t"].append(rows(1, 2, 3))
        print("ready", flush=True)
        sys.stdin.read()
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        folder = SpoolFolder(tmp_path, "life", ("t",), MANY)
        assert folder.take_over().ours == {}
        process.kill()
        process.wait()
        assert folder.take_over().ours == {"t": 3}
        assert drain(folder.spools["t"]) == [1, 2, 3]
        folder.close()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 3000), junk=st.binary(max_size=40))
def test_a_torn_write_costs_no_row_that_was_kept(tmp_path_factory, cut: int, junk: bytes) -> None:
    tmp_path = tmp_path_factory.mktemp("torn")
    segment = left_by(tmp_path, *(rows(number) for number in range(5)))
    whole = segment.read_bytes()
    torn = whole[: max(len(whole) - cut, 0)] + junk
    segment.write_bytes(torn)
    folder = SpoolFolder(tmp_path / "spool", "life", ("t",), MANY)
    found = folder.take_over()
    drained = drain(folder.spools["t"])
    kept = sum(end <= len(whole) - cut for end in record_ends(whole))
    assert drained == list(range(len(drained)))
    assert len(drained) >= kept  # more only where the junk is what was cut off
    assert found.ours.get("t", 0) >= len(drained)
    folder.close()


def record_ends(whole: bytes) -> list[int]:
    """Where each record ends: they are of one size, behind the header."""
    from mixer_py.telemetry.spool.segments import _HEAD, _RECORD, MAGIC

    length, _, _ = _HEAD.unpack_from(whole, len(MAGIC))
    place, ends = len(MAGIC) + _HEAD.size + length, []
    while place < len(whole):
        place += _RECORD.size + _RECORD.unpack_from(whole, place)[1]
        ends.append(place)
    return ends


def test_a_damaged_record_costs_its_own_rows(tmp_path: Path) -> None:
    segment = left_by(tmp_path, rows(0), rows(1, 1), rows(2))
    whole = bytearray(segment.read_bytes())
    whole[record_ends(bytes(whole))[1] - 3] ^= 0xFF
    segment.write_bytes(whole)
    folder = SpoolFolder(tmp_path / "spool", "life", ("t",), MANY)
    folder.take_over()
    block = folder.spools["t"].take(MANY, MANY, token(1))
    assert block is not None
    assert (numbers(block.batches), block.rows, block.damaged) == ([0, 2], 4, 2)
    folder.close()


def test_a_record_whose_own_numbers_are_damaged_costs_itself_and_is_told(tmp_path: Path) -> None:
    segment = left_by(tmp_path, *(rows(number) for number in range(4)))
    whole = bytearray(segment.read_bytes())
    whole[record_ends(bytes(whole))[0] + 1] ^= 1  # how many rows the second one has
    segment.write_bytes(whole)
    folder = SpoolFolder(tmp_path / "spool", "life", ("t",), MANY)
    (fault,) = folder.take_over().faults
    assert fault.endswith("bytes are damaged, in which there were rows")
    assert drain(folder.spools["t"]) == [0, 2, 3]
    folder.close()


def test_what_rows_hold_is_never_taken_for_a_record(tmp_path: Path) -> None:
    """Else whoever writes into a log could make rows up, once a disk is damaged."""
    other = left_by(tmp_path / "other", rows(666), rows(667)).read_bytes()
    body = other[record_ends(other)[0] :]
    segment = left_by(tmp_path, rows(0))
    whole = segment.read_bytes()
    segment.write_bytes(whole + b"\xff" * 16 + body)  # its records begin at the same places
    folder = SpoolFolder(tmp_path / "spool", "life", ("t",), MANY)
    folder.take_over()
    assert drain(folder.spools["t"]) == [0]
    folder.close()


def test_a_file_that_is_no_segment_is_told_and_set_aside(tmp_path: Path) -> None:
    segment = left_by(tmp_path, rows(0))
    segment.write_bytes(b"nonsense")
    folder = SpoolFolder(tmp_path / "spool", "life", ("t",), MANY)
    (fault,) = folder.take_over().faults
    assert "is no segment" in fault
    assert drain(folder.spools["t"]) == []
    folder.close()
    assert [file.name for file in (tmp_path / "spool").glob(f"*/*{DAMAGED}")] == [f"{segment.name}{DAMAGED}"]


def test_a_folder_that_cannot_be_locked_is_told_and_costs_no_other(tmp_path: Path) -> None:
    left_by(tmp_path, rows(1))
    (tmp_path / "spool" / "elsewhere.0" / "lock").mkdir(parents=True)
    folder = SpoolFolder(tmp_path / "spool", "life", ("t",), MANY)
    found = folder.take_over()
    assert found.ours == {"t": 1}
    (fault,) = found.faults
    assert "elsewhere.0" in fault
    assert drain(folder.spools["t"]) == [1]
    folder.close()


def test_a_folder_that_is_being_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".new-0123").mkdir()
    folder = SpoolFolder(tmp_path, "life", ("t",), MANY)
    folder.take_over()
    folder.close()
    assert [path.name for path in tmp_path.iterdir()] == [".new-0123"]


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_a_damaged_progress_sends_rows_again_and_loses_none(tmp_path_factory, junk: bytes, cut: int) -> None:
    tmp_path = tmp_path_factory.mktemp("progress")
    one = SpoolFolder(tmp_path / "spool", "life", ("t",), MANY)
    for number in range(6):
        one.spools["t"].append(rows(number))
    for number in range(3):
        block = one.spools["t"].take(1, MANY, token(number))
        assert block is not None
        one.spools["t"].finish(block)
    one.close()
    (progress,) = (tmp_path / "spool").glob(f"*/*{PROGRESS}")
    progress.write_bytes(progress.read_bytes()[:cut] + junk)
    folder = SpoolFolder(tmp_path / "spool", "life", ("t",), MANY)
    folder.take_over()
    drained = drain(folder.spools["t"])
    assert drained == list(range(6))[-len(drained) :]
    assert set(drained) >= {3, 4, 5}
    folder.close()


def test_full_drops_the_oldest_and_tells_how_many(tmp_path: Path) -> None:
    folder = SpoolFolder(tmp_path, "life", ("t",), 80_000)
    spool = folder.spools["t"]
    dropped = sum(spool.append(rows(number, text="x" * 1000)) for number in range(200))
    assert spool.bytes <= 80_000
    assert spool.rows == 200 - dropped
    assert 0 < spool.rows < 80
    assert drain(spool) == list(range(dropped, 200))
    folder.close()


def test_the_block_on_its_way_is_not_dropped(tmp_path: Path) -> None:
    """Else its rows would be booked as dropped and as written."""
    folder = SpoolFolder(tmp_path, "life", ("t",), 20_000)
    spool = folder.spools["t"]
    spool.append(rows(0, text="x" * 3000))
    block = spool.take(1, MANY, token(1))
    assert block is not None
    dropped = sum(spool.append(rows(number, text="x" * 3000)) for number in range(1, 10))
    assert dropped
    spool.finish(block)
    assert spool.rows == 9 - dropped
    assert drain(spool) == list(range(1 + dropped, 10))
    folder.close()


def test_a_disk_that_refuses_costs_nothing_that_is_there(folder: SpoolFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real full disk: tests/end_to_end. Here the write stops in the middle of a record."""
    spool = folder.spools["t"]
    spool.append(rows(0))
    real = os.pwrite

    def write_a_part(file: int, content: bytes, offset: int) -> int:
        real(file, bytes(content[:20]), offset)
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", write_a_part)
        with pytest.raises(OSError, match="no space"):
            spool.append(rows(1))
    spool.append(rows(2))
    assert drain(spool) == [0, 2]


def test_a_block_from_memory_keeps_its_token_before_all_others(folder: SpoolFolder) -> None:
    spool = folder.spools["t"]
    spool.append(rows(5))
    spool.append_begun(rows(1, 2), token(9))
    block = spool.take(1, MANY, token(10))
    assert block is not None
    assert (block.token, numbers(block.batches)) == (token(9), [1, 2])
    spool.finish(block)
    assert drain(spool) == [5]


def full(file: int, content: bytes, offset: int) -> int:
    raise OSError(errno.ENOSPC, "no space left on device")


def test_a_block_whose_end_cannot_be_noted_is_done_all_the_same(folder: SpoolFolder, monkeypatch) -> None:
    spool = folder.spools["t"]
    for number in range(4):
        spool.append(rows(number))
    block = spool.take(1, MANY, token(1))
    assert block is not None
    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="no space"):
            spool.finish(block)
        assert spool.rows == 3
        with pytest.raises(OSError, match="no space"):
            spool.take(1, MANY, token(2))
    assert drain(spool) == [1, 2, 3]
    assert spool.rows == 0


def test_the_end_of_a_block_is_noted_with_the_next_step(tmp_path: Path, monkeypatch) -> None:
    one = SpoolFolder(tmp_path, "life", ("t",), MANY)
    for number in range(4):
        one.spools["t"].append(rows(number))
    block = one.spools["t"].take(1, MANY, token(1))
    assert block is not None
    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="no space"):
            one.spools["t"].finish(block)
    one.spools["t"].take(1, MANY, token(2))
    one.close()
    other = SpoolFolder(tmp_path, "life", ("t",), MANY)
    assert other.take_over().ours == {"t": 3}
    again = other.spools["t"].take(1, MANY, token(3))
    assert again is not None
    assert (again.token, numbers(again.batches)) == (token(2), [1])
    other.close()


def test_rows_where_the_disk_cannot_be_read_cost_themselves(folder: SpoolFolder, monkeypatch) -> None:
    spool = folder.spools["t"]
    for number in range(3):
        spool.append(rows(number))
    real = os.pread

    def read(file: int, length: int, offset: int) -> bytes:
        content = real(file, length, offset)
        if rows(1).serialize().to_pybytes() == content:
            raise OSError(errno.EIO, "input/output error")
        return content

    monkeypatch.setattr(os, "pread", read)
    block = spool.take(MANY, MANY, token(1))
    assert block is not None
    assert (numbers(block.batches), block.damaged) == ([0, 2], 1)

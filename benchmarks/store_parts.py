"""What a row costs in the embedded ClickHouse, by what is done with it. Figures as JSON. For `telemetry.py`.

    python benchmarks/store_parts.py insert|checked|rolled-up|merged ROWS BLOCKS

Each name stands for what the one before does and one thing more: blocks are inserted; their parts are checked; roll-ups
are fed; parts are merged. CPU is of the whole process, until the merges are over.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
from log_entries import http_message, identified
from payloads import ENTRIES_PER_MESSAGE

from mixer_py.instruments import SystemClock
from mixer_py.runtime import arrow  # noqa: F401 (Arrow as the store has it)
from mixer_py.telemetry.access_log.decoding import AccessLogDecoder, parse_identity
from mixer_py.telemetry.rollups import ROLLUPS
from mixer_py.telemetry.store.engine import StoreEngine

PARTS = ("insert", "checked", "rolled-up", "merged")
_DIFFERENT = 6
"""Blocks that are made; they are inserted in turn, each time under another token."""
_LABEL_SETS = 100
_WARM_UP = 2
_MERGES_SECONDS = 60.0
_QUIET_SECONDS = 1.5


def measure(parts: str, rows: int, blocks: int) -> dict[str, float]:
    """Microseconds of CPU a row, while blocks are inserted and until merges are over; bytes a row on disk."""
    what = PARTS.index(parts)
    batches = _batches(rows)
    with tempfile.TemporaryDirectory(prefix="mixer-bench-") as folder:
        engine = StoreEngine(Path(folder) / "chdb", "mesh")
        engine.open()
        query = engine._writer.query  # noqa: SLF001 (parts of it are taken away)
        if what < PARTS.index("merged"):
            query("SYSTEM STOP MERGES")
        if what < PARTS.index("rolled-up"):
            for rollup in ROLLUPS:
                query(f"DROP VIEW mesh.{rollup.name}_mv")
        if what < PARTS.index("checked"):
            engine._check_part = lambda *_: ""  # type: ignore[method-assign]  # noqa: SLF001 (as above)
        for number in range(_WARM_UP):
            engine.write("requests", batches[number % len(batches)], f"warm-{number}")
        begun = time.process_time()
        for number in range(blocks):
            engine.write("requests", batches[number % len(batches)], f"block-{number}")
        inserted = time.process_time()
        _until_quiet(engine)
        ended = time.process_time()
        answer = query(
            "SELECT sum(rows) AS rows, sum(bytes_on_disk) AS bytes, count() AS parts FROM system.parts "
            "WHERE active AND table = 'requests'",
            "JSONEachRow",
        )
        held = json.loads(answer.bytes())
        engine.close()
    if int(held["rows"]) != rows * (blocks + _WARM_UP):
        raise SystemExit(f"{held['rows']} rows are there of {rows * (blocks + _WARM_UP)}")
    return {
        "inserting": (inserted - begun) / rows / blocks * 1e6,
        "afterwards": (ended - inserted) / rows / blocks * 1e6,
        "bytes": int(held["bytes"]) / int(held["rows"]),
        "parts": float(held["parts"]),
    }


def _batches(rows: int) -> list[pa.RecordBatch]:
    decoder = AccessLogDecoder(SystemClock())
    identity = parse_identity(identified(b"", 0))
    assert identity is not None
    found = []
    for block in range(_DIFFERENT):
        first = block * rows
        messages = [
            (http_message(number, _LABEL_SETS), identity) for number in range(first, first + rows, ENTRIES_PER_MESSAGE)
        ]
        found.append(decoder.decode(messages).requests.slice(0, rows))
    return found


def _until_quiet(engine: StoreEngine) -> None:
    """Waits until nothing has been merged for a moment."""
    deadline = time.monotonic() + _MERGES_SECONDS
    quiet = time.monotonic()
    while time.monotonic() < min(deadline, quiet + _QUIET_SECONDS):
        answer = engine._inspector.query("SELECT count() FROM system.merges")  # noqa: SLF001 (as above)
        if answer.bytes().strip() != b"0":
            quiet = time.monotonic()
        time.sleep(0.1)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))

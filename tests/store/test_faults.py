"""Disks that are full or lie, processes that die: nothing acknowledged is missing, nothing is there twice."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from mixer_py.errors import SinkError
from mixer_py.telemetry.store.batches import encode_batch
from mixer_py.telemetry.store.protocol import Frame, write_frame
from tests.store.store_process import StoreProcess, rows

pytestmark = pytest.mark.chdb


def limit_files(pid: int, size: int) -> None:
    """From now on the process cannot write a file beyond `size` bytes: EFBIG, which chDB swallows as it does ENOSPC."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


async def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", script, *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


async def test_what_was_acknowledged_survives_a_kill(running: StoreProcess) -> None:
    for number in range(5):
        await running.client.write("decisions", rows(500, f"b{number}"), f"b{number}")
    await running.kill()
    with pytest.raises(SinkError, match="away") as caught:
        await running.client.write("decisions", rows(1), "late")
    assert caught.value.reason == "away"
    await running.start()
    for number in range(5):
        assert await running.count(f"b{number}") == (500, 500)


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.1, 0.3])
async def test_a_batch_sent_again_after_a_kill_is_there_once(running: StoreProcess, seconds: float) -> None:
    _, writer = await asyncio.open_unix_connection(running.socket)
    batch = rows(20_000, "a")
    await write_frame(writer, Frame({"request": "write", "table": "decisions", "token": "a"}, encode_batch(batch)))
    await asyncio.sleep(seconds)
    await running.kill()
    writer.close()
    await running.start()
    await running.client.write("decisions", batch, "a")
    assert await running.count("a") == (20_000, 20_000)


async def test_a_write_that_chdb_lost_is_not_acknowledged(running: StoreProcess) -> None:
    await running.client.write("decisions", rows(100, "before"), "before")
    batch = rows(8000, "lost")
    limit_files(running.child.pid, 64 << 10)
    with pytest.raises(SinkError, match="is not on disk as it was written") as caught:
        await running.client.write("decisions", batch, "lost")
    assert caught.value.reason == "unverified"
    assert await running.ended() == 1  # so that the supervisor replaces it
    await running.start()
    assert await running.count("before") == (100, 100)
    assert await running.count("lost") == (0, 0)
    await running.client.write("decisions", batch, "lost")
    assert await running.count("lost") == (8000, 8000)


async def test_a_batch_whose_part_was_set_aside_can_be_sent_again(running: StoreProcess) -> None:
    """It ended between the write and its check: chDB remembers the token, but the rows are gone."""
    batch = rows(8000, "cut")
    await running.client.write("decisions", batch, "cut")
    await running.kill()
    for data in running.directory.glob("store/*/*/all_*/data.bin"):
        data.write_bytes(data.read_bytes()[:4096])
    await running.start()
    assert await running.count("cut") == (0, 0)
    for _ in range(2):
        await running.client.write("decisions", batch, "cut")
    assert await running.count("cut") == (8000, 8000)


async def test_a_disk_that_is_nearly_full_is_left_alone(store: StoreProcess) -> None:
    await store.start("--keep-free", str(1 << 60))
    with pytest.raises(SinkError, match="bytes left") as caught:
        await store.client.write("decisions", rows(10, "a"), "a")
    assert caught.value.reason == "disk_full"
    assert await store.count("a") == (0, 0)
    assert await store.stop() == 0
    await store.start()
    await store.client.write("decisions", rows(10, "a"), "a")
    assert await store.count("a") == (10, 10)


async def test_opening_a_folder_again_writes_no_definition_anew(running: StoreProcess) -> None:
    """On a disk that fails chDB would leave half of it, without a word, and no store could open the folder any more."""

    def definitions() -> dict[Path, tuple[int, int]]:
        found = {file: file.stat() for file in running.directory.rglob("*.sql")}
        return {file: (status.st_ino, status.st_mtime_ns) for file, status in found.items()}

    before = definitions()
    assert {"requests.sql", "decisions.sql"} <= {file.name for file in before}
    assert await running.stop() == 0
    await running.start()
    await running.client.write("decisions", rows(10, "a"), "a")
    assert definitions() == before


async def test_sources_of_a_merge_outlive_its_check(running: StoreProcess) -> None:
    """By itself chDB removes them within a minute, whether or not the merged part is on disk."""
    made = await running.ask(
        "SELECT create_table_query AS made FROM system.tables WHERE name IN ('requests', 'decisions')"
    )
    assert ["old_parts_lifetime = 480" in table["made"] for table in made] == [True, True]


MERGE = """
import resource, sys
from pathlib import Path
from mixer_py.errors import SinkError
from mixer_py.telemetry.store.engine import StoreEngine
from tests.store.store_process import rows

engine = StoreEngine(Path(sys.argv[1]), "mesh")
engine.open()
for number in range(3):
    engine.write("decisions", rows(8000, f"m{number}"), f"m{number}")
engine.inspect()
resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, resource.RLIM_INFINITY))
engine._writer.query("OPTIMIZE TABLE mesh.decisions FINAL")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
try:
    engine.inspect()
except SinkError as error:
    print("found:", error.reason)
try:
    engine.write("decisions", rows(10, "later"), "later")
except SinkError as error:
    print("refused:", error.reason)
"""


async def test_a_merge_that_chdb_lost_is_found_and_undone(store: StoreProcess) -> None:
    merging = await run_script(MERGE, str(store.directory))
    assert merging.stdout.splitlines()[-2:] == ["found: unverified", "refused: unverified"], merging.stderr
    await store.start()
    for number in range(3):
        assert await store.count(f"m{number}") == (8000, 8000)
    await store.client.write("decisions", rows(10, "later"), "later")
    assert await store.count("later") == (10, 10)


UPGRADE = """
import os, resource, sys
from pathlib import Path
from mixer_py.errors import ConfigurationError
from mixer_py.telemetry.store import definitions
from mixer_py.telemetry.store.engine import StoreEngine

migrate = definitions.migrate

def cut(layout, ask, run, settle):
    def run_or_fail(statement):
        if statement.startswith(sys.argv[2]) and sys.argv[3] == "fails":
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        answer = run(statement)
        if statement.startswith(sys.argv[2]) and sys.argv[3] == "is killed":
            os.kill(os.getpid(), 9)
        return answer
    return migrate(layout, ask, run_or_fail, settle)

definitions.migrate = cut
try:
    StoreEngine(Path(sys.argv[1]), "mesh").open()
except ConfigurationError as error:
    print(error)
"""
OLDER = """
import chdb, sys
connection = chdb.connect(sys.argv[1])
for table, column in (("decisions", "shadow_rule"), ("requests", "route_name")):
    connection.query(f"ALTER TABLE mesh.{table} DROP COLUMN {column}")
connection.query("DROP TABLE mesh.connections")
connection.query("TRUNCATE TABLE mesh.schema_history")
connection.close()
"""


@pytest.mark.parametrize("what", ["fails", "is killed"])
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE IF NOT EXISTS mesh.connections",
        "ALTER TABLE mesh.decisions ADD COLUMN",
        "DROP TABLE IF EXISTS mesh.request_decisions",
        "CREATE MATERIALIZED VIEW",
        "INSERT INTO mesh.schema_history",
    ],
)
async def test_a_change_of_tables_that_does_not_end_is_begun_anew(
    running: StoreProcess, statement: str, what: str
) -> None:
    """On a disk that fails chDB leaves half of a definition, and could not open the folder any more."""
    await running.client.write("decisions", rows(100, "before"), "before")
    columns = "SELECT table, name, type FROM system.columns WHERE database = 'mesh' ORDER BY table, position"
    wanted = await running.ask(columns)
    assert await running.stop() == 0
    older = await run_script(OLDER, str(running.directory))
    assert older.returncode == 0, older.stderr
    upgrade = await run_script(UPGRADE, str(running.directory), statement, what)
    assert upgrade.returncode == (0 if what == "fails" else -9), upgrade.stderr
    await running.start()
    assert await running.count("before") == (100, 100)
    assert await running.ask(columns) == wanted
    await running.client.write("decisions", rows(10, "later"), "later")
    assert await running.count("later") == (10, 10)
    assert not [*running.directory.glob("definitions*")]

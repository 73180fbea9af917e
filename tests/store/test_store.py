"""Rows in, rows out, through a real store process."""

from __future__ import annotations

import asyncio
import re
import signal
import stat
import sys
from pathlib import Path

import pytest

from mixer_py.errors import NotRunningError, QueryFailedError, SinkError
from mixer_py.telemetry.store import QueryLimits, StoreClient
from tests.store.store_process import PATIENCE, StoreProcess, rows

pytestmark = pytest.mark.chdb


async def test_rows_that_were_written_are_found(running: StoreProcess) -> None:
    await running.client.write("decisions", rows(1000, "a"), "a")
    await running.client.write("decisions", rows(10, "b"), "b")
    await running.client.write("decisions", rows(0), "empty")
    assert await running.count("a") == (1000, 1000)
    assert await running.ask("SELECT decision_id FROM mesh.decisions WHERE decision_id = 'b-7'") == [
        {"decision_id": "b-7"}
    ]
    assert await running.ask("SELECT 1 WHERE 0") == []
    assert stat.S_IMODE(running.socket.stat().st_mode) == 0o600
    assert await running.stop() == 0
    assert not running.socket.exists()


async def test_a_token_counts_once(running: StoreProcess) -> None:
    for _ in range(3):
        await running.client.write("decisions", rows(100, "a"), "a")
    await running.client.write("decisions", rows(100, "b"), "b")
    assert await running.count("a") == (100, 100)
    assert await running.count("b") == (100, 100)


async def test_wrong_rows_are_refused_by_name(running: StoreProcess) -> None:
    for table, batch, token, message in (
        ("requests", rows(1), "a", "requests: columns differ"),
        ("system.parts", rows(1), "a", "there is no table system.parts"),
        ("decisions", rows(1), "a' SELECT", "cannot be a token"),
    ):
        with pytest.raises(SinkError, match=re.escape(message)) as caught:
            await running.client.write(table, batch, token)
        assert caught.value.reason == "invalid"
    await running.client.write("decisions", rows(1, "good"), "good")


LIMITED = (
    ("SELECT sum(cityHash64(number)) FROM numbers(1e12)", QueryLimits(seconds=0.2), "TIMEOUT_EXCEEDED"),
    ("SELECT number FROM numbers(11)", QueryLimits(rows=10), "TOO_MANY_ROWS_OR_BYTES"),
    (
        "SELECT repeat('x', 100 + number) FROM numbers(900)",
        QueryLimits(result_bytes=10_000),
        "TOO_MANY_ROWS_OR_BYTES",
    ),
    ("SELECT groupArray(toString(number)) FROM numbers(1e7)", QueryLimits(memory=20 << 20), "MEMORY_LIMIT"),
    ("SELECT 1 SETTINGS max_execution_time = 1000", QueryLimits(), "READONLY"),
    ("SELECT * FROM file('/etc/passwd', 'LineAsString')", QueryLimits(), "READONLY"),
    ("INSERT INTO decisions SELECT * FROM decisions", QueryLimits(), "READONLY"),
    ("DROP TABLE decisions", QueryLimits(), "READONLY"),
    ("SELECT 1; DROP TABLE decisions", QueryLimits(), "READONLY"),
    ("SELECT nothing FROM decisions", QueryLimits(), "nothing"),
)
"""Query, its limits, and what the refusal says."""


async def test_a_query_stays_within_its_limits(running: StoreProcess) -> None:
    for sql, limits, message in LIMITED:
        with pytest.raises(QueryFailedError, match=message):
            await running.client.query(sql, limits)
    assert len(await running.ask("SELECT number FROM numbers(10)", QueryLimits(rows=10))) == 10
    assert await running.ask("SELECT count() AS n FROM decisions") == [{"n": 0}]


async def test_a_long_select_does_not_hold_an_insert(running: StoreProcess) -> None:
    selecting = asyncio.create_task(
        running.ask("SELECT sum(cityHash64(number)) FROM numbers(1e12)", QueryLimits(seconds=PATIENCE))
    )
    await running.until_running("SELECT sum")
    await running.client.write("decisions", rows(100, "a"), "a")
    assert not selecting.done()
    await running.kill()
    with pytest.raises(NotRunningError):
        await selecting


async def test_a_long_insert_does_not_hold_a_select(running: StoreProcess) -> None:
    writing = asyncio.create_task(running.client.write("decisions", rows(200_000, "a"), "a"))
    await running.until_running("INSERT")
    assert await running.ask("SELECT 1 AS one") == [{"one": 1}]
    assert not writing.done()
    await writing
    assert await running.count("a") == (200_000, 200_000)


async def test_sigterm_finishes_the_insert_in_hand(running: StoreProcess) -> None:
    writing = asyncio.create_task(running.client.write("decisions", rows(200_000, "a"), "a"))
    await running.until_running("INSERT")
    assert not writing.done()
    running.child.process.send_signal(signal.SIGTERM)
    await writing
    assert await running.ended() == 0
    await running.start()
    assert await running.count("a") == (200_000, 200_000)


async def test_sigterm_does_not_wait_for_queries(running: StoreProcess) -> None:
    limits = QueryLimits(seconds=100 * PATIENCE)
    asking = asyncio.create_task(running.ask("SELECT sum(cityHash64(number)) FROM numbers(1e12)", limits))
    await running.until_running("SELECT sum")
    running.child.process.send_signal(signal.SIGTERM)
    assert await running.ended() == 0
    with pytest.raises((QueryFailedError, NotRunningError)):
        await asking


async def test_it_ends_when_the_supervisor_is_gone(running: StoreProcess) -> None:
    running.child.control.close()
    assert await running.ended() == 1


async def test_a_folder_in_use_is_refused_by_name(running: StoreProcess) -> None:
    answer = await running.start(socket=running.folder / "t")
    assert answer["event"] == "refused"
    message, *_, field, way_out = answer["faults"][0]
    assert str(running.directory) in message
    assert "in use by another process" in message
    assert field == "telemetry.clickhouse.url"
    assert "folder of its own" in way_out
    await running.client.ping()


async def test_tables_of_another_version_are_refused(store: StoreProcess) -> None:
    engine = "import chdb, sys; c = chdb.connect(sys.argv[1]); c.query('CREATE DATABASE mesh'); "
    engine += (
        "c.query('CREATE TABLE mesh.decisions (timestamp DateTime) ENGINE = MergeTree ORDER BY timestamp'); c.close()"
    )
    making = await asyncio.create_subprocess_exec(sys.executable, "-c", engine, str(store.directory))
    assert await asyncio.wait_for(making.wait(), PATIENCE) == 0
    answer = await store.start()
    assert answer["event"] == "refused"
    assert "mesh.decisions" in answer["faults"][0][0]
    assert "made by another version" in answer["faults"][0][0]
    assert await store.stop() == 0


async def test_a_folder_that_cannot_be_made_is_refused(store: StoreProcess) -> None:
    store.directory.write_text("a file")
    answer = await store.start()
    assert answer["event"] == "refused"
    assert "folder cannot be made" in answer["faults"][0][0]


async def test_without_chdb_it_says_how_to_get_it(
    store: StoreProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "modules" / "chdb").mkdir(parents=True)
    (tmp_path / "modules" / "chdb" / "__init__.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    answer = await store.start()
    assert answer["event"] == "refused"
    assert answer["faults"][0][4] == "pip install 'mixer-py[embedded]'"


async def test_a_connection_that_talks_nonsense_costs_itself(running: StoreProcess) -> None:
    reader, writer = await asyncio.open_unix_connection(running.socket)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    writer.close()
    await running.client.ping()
    assert running.errors("protocol") == 1


async def test_several_clients_at_once(running: StoreProcess) -> None:
    clients = [StoreClient(running.socket, write_timeout=PATIENCE) for _ in range(4)]
    await asyncio.gather(
        *(
            client.write("decisions", rows(50, f"c{number}x{turn}"), f"c{number}x{turn}")
            for number, client in enumerate(clients)
            for turn in range(5)
        )
    )
    found = await asyncio.gather(
        *(client.query("SELECT count() AS n FROM decisions", QueryLimits()) for client in clients)
    )
    assert set(found) == {b'{"n":1000}\n'}
    for client in clients:
        await client.close()

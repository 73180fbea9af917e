"""What a reader may ask of a real chDB: with every function that it has, nobody reads a file or another database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mixer_py.errors import QueryFailedError, QueryRefusedError
from mixer_py.queries.reader import StoreReader
from mixer_py.telemetry.store import QueryLimits
from tests.store.store_process import StoreProcess, rows

pytestmark = pytest.mark.chdb

SECRET = "nobody-may-read-this"


@pytest.fixture
def reader(running: StoreProcess) -> StoreReader:
    return StoreReader(running.client, "mesh")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    return path


async def answer(reader: StoreReader, sql: str) -> bytes:
    try:
        return await reader.query(sql)
    except (QueryRefusedError, QueryFailedError) as error:
        return str(error).encode()


async def test_no_function_reads_a_file(running: StoreProcess, reader: StoreReader, file: Path) -> None:
    """Also one that a later chDB adds: the list is chDB's own."""
    functions = [row["name"] for row in await running.ask("SELECT name FROM system.functions")]
    assert len(functions) > 1000
    calls = [f"SELECT `{name}`('{file}')" for name in functions]
    references = [f"SELECT arrayMap({name}, ['{file}'])" for name in functions]
    assert [sql for sql in calls + references if SECRET.encode() in await answer(reader, sql)] == []


async def test_no_table_function_reads_a_file(running: StoreProcess, reader: StoreReader, file: Path) -> None:
    functions = [row["name"] for row in await running.ask("SELECT name FROM system.table_functions", QueryLimits())]
    assert "file" in functions
    arguments = (f"'{file}'", f"'{file}', 'LineAsString'", f"'{file}', LineAsString, 'line String'")
    calls = [f"SELECT * FROM {name}({given})" for name in functions for given in arguments]
    quoted = [f"SELECT * FROM `{name}`({given}) AS t" for name in functions for given in arguments]
    assert [sql for sql in calls + quoted if SECRET.encode() in await answer(reader, sql)] == []


async def test_the_file_is_there_to_be_read_by_who_may(running: StoreProcess, file: Path) -> None:
    """Without the check of queries it is: chDB's own limits do not keep it."""
    assert SECRET.encode() in await running.client.query(f"SELECT file('{file}')", QueryLimits())


async def test_what_is_permitted_answers(running: StoreProcess, reader: StoreReader) -> None:
    await running.client.write("decisions", rows(10, "a"), "a")
    lines = await reader.query(
        "SELECT count(), uniqExactIf(decision_id, decision_id != 'a-3'), if(1, 'yes', 'no'), 'it''s \\\\ \\n' AS text "
        "FROM decisions WHERE timestamp > now() - INTERVAL 100 YEAR "
        "OR decision_id IN (SELECT decision_id FROM requests)"
    )
    assert json.loads(lines) == {
        "count()": 10,
        "uniqExactIf(decision_id, notEquals(decision_id, 'a-3'))": 9,
        "if(1, 'yes', 'no')": "yes",
        "text": "it's \\ \n",
    }
    assert await reader.query("SELECT * FROM request_decisions") == b""


async def test_limits_hold_for_what_is_permitted(running: StoreProcess) -> None:
    tight = StoreReader(running.client, "mesh", QueryLimits(seconds=0.5, rows=10, memory=20 << 20))
    for sql, message in (
        ("SELECT sum(cityHash64(number)) FROM numbers(1000000000000)", "TIMEOUT_EXCEEDED"),
        ("SELECT number FROM numbers(11)", "TOO_MANY_ROWS"),
        ("SELECT groupArray(toString(number)) FROM numbers(10000000)", "MEMORY_LIMIT"),
    ):
        with pytest.raises(QueryFailedError, match=message):
            await tight.query(sql)

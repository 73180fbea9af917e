"""The writer against a real server. Debian's ClickHouse is 18.16, so types that it lacks are substituted."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Iterator

import orjson
import pyarrow as pa
import pytest

from mixer_py.demo.processes import Ports
from mixer_py.errors import NotRunningError, QueryFailedError, SinkError
from mixer_py.instruments import Registry, SystemClock
from mixer_py.queries.reader import ServerReader
from mixer_py.telemetry.decision_columns import DECISIONS
from mixer_py.telemetry.layout import Layout
from mixer_py.telemetry.recorder import Recorder
from mixer_py.telemetry.settings import QueueSettings, ServerTarget
from mixer_py.telemetry.sinks.clickhouse import SEND_RECEIVE_SECONDS, ClickHouseSink
from tests.parts.books import until_written
from tests.parts.clickhouse_server import ClickHouseServer

pytestmark = pytest.mark.clickhouse


def old_type(clickhouse: str) -> str:
    """What 18.16 has in place of a type of today."""
    return {"DateTime64(9, 'UTC')": "DateTime", "Bool": "UInt8"}.get(clickhouse, clickhouse)


LAYOUT = Layout("mesh")
STATEMENTS = (
    "CREATE DATABASE IF NOT EXISTS mesh",
    "CREATE TABLE IF NOT EXISTS mesh.decisions ("
    + ", ".join(f"{column.name} {old_type(column.kind.clickhouse)}" for column in DECISIONS.columns)
    + ") ENGINE = MergeTree ORDER BY decision_id",
)


def rows(count: int, **values: object) -> pa.RecordBatch:
    """`count` decisions; the second that they were made at is what 18.16 can hold of an instant."""
    columns = {column.name: [column.kind.default] * count for column in DECISIONS.columns}
    columns |= {"decision_id": [str(index) for index in range(count)], "timestamp": [1_700_000_000_000_000_000] * count}
    columns |= {name: [value] * count for name, value in values.items()}
    arrays = [pa.array(columns[column.name], column.kind.arrow) for column in DECISIONS.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=DECISIONS.schema)


@pytest.fixture(scope="module")
def server(ports: Ports, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    running = ClickHouseServer(ports, tmp_path_factory.mktemp("clickhouse"))
    running.start()
    asyncio.run(write_once(running))
    yield running
    running.kill()


async def write_once(server: ClickHouseServer) -> None:
    """Makes the tables."""
    sink = ClickHouseSink(server.target, "word", LAYOUT, STATEMENTS)
    await sink.write("decisions", rows(1, request_id="first"), "t0")
    await sink.close()


async def read(server: ClickHouseServer, sql: str) -> list[dict[str, object]]:
    lines = (await ServerReader(server.target, "word").query(sql)).splitlines()
    return [orjson.loads(line) for line in lines]


async def test_every_column_arrives_as_it_left(server: ClickHouseServer) -> None:
    sink = ClickHouseSink(server.target, "word", LAYOUT, STATEMENTS)
    values = {"verdict": "deny", "reasons": "because of ü and 'quotes'\n", "http_status": 403, "dry_run": True,
              "quota_remaining": 7, "duration_us": 1.5, "request_id": "every"}  # fmt: skip
    await sink.write("decisions", rows(3, **values), "t1")
    await sink.write("decisions", rows(1, request_id="none"), "t2")
    await sink.close()
    names = ", ".join(values)
    found = await read(server, f"SELECT {names} FROM decisions WHERE request_id = 'every'")
    assert found == [{**values, "dry_run": 1}] * 3
    (left,) = await read(server, "SELECT quota_remaining, timestamp FROM decisions WHERE request_id = 'none'")
    assert left["quota_remaining"] is None
    assert re.fullmatch(r"2023-11-1\d \d\d:\d\d:\d\d", str(left["timestamp"]))


async def test_columns_that_are_left_out_as_nothing_is_in_them_are_what_they_would_have_been(
    server: ClickHouseServer,
) -> None:
    sink = ClickHouseSink(server.target, "word", LAYOUT, STATEMENTS)
    values = {"timestamp": 1_700_000_000_000_000_000, "dry_run": True, "quota_remaining": 0, "http_status": 1}
    filled = {column.name: values.get(column.name, "x" if column.kind.is_text else 1.0) for column in DECISIONS.columns}
    lean = rows(3, request_id="lean")
    whole = pa.Table.from_batches([rows(3, request_id="whole"), rows(1, **filled)]).combine_chunks().to_batches()[0]
    await sink.write("decisions", lean, "lean")
    await sink.write("decisions", whole, "whole")
    await sink.close()
    found = [
        [{**row, "request_id": ""} for row in await read(server, f"SELECT * FROM decisions WHERE request_id = '{name}'"
                                                                " ORDER BY decision_id")]
        for name in ("lean", "whole")
    ]  # fmt: skip
    assert len(found[0]) == 3
    assert found[0] == found[1]


async def test_a_reader_is_bound(server: ClickHouseServer) -> None:
    with pytest.raises(QueryFailedError):
        await read(server, "SELECT no_such_column FROM decisions")
    with pytest.raises(QueryFailedError, match=r"(?i)limit"):
        await read(server, "SELECT number FROM numbers(1000000)")


async def test_a_wrong_password_and_a_wrong_port_are_told_apart_from_rows_that_do_not_fit(
    server: ClickHouseServer,
) -> None:
    for target, password in (
        (server.target, "wrong"),
        (ServerTarget("127.0.0.1", 1, "default", "mesh", secure=False), ""),
    ):
        sink = ClickHouseSink(target, password, LAYOUT, STATEMENTS)
        with pytest.raises(SinkError) as caught:
            await sink.write("decisions", rows(1), "t")
        assert caught.value.reason in {"away", "insert_failed"}
        await sink.close()
        with pytest.raises((NotRunningError, QueryFailedError)):
            await ServerReader(target, password).query("SELECT 1")


async def test_a_server_that_hangs_does_not_hold_the_end(server: ClickHouseServer) -> None:
    registry = Registry()
    sink = ClickHouseSink(server.target, "word", LAYOUT, STATEMENTS)
    recorder = Recorder(QueueSettings(block_interval="1ms"), registry, SystemClock(), sink)
    recorder.start()
    recorder.put("decisions", rows(1, request_id="before it hangs"))
    await until_written(registry, 1)
    server.signal(signal.SIGSTOP)
    try:
        recorder.put("decisions", rows(5, request_id="while it hangs"))
        await asyncio.sleep(0.2)
        left = await asyncio.wait_for(recorder.drain(0.5), SEND_RECEIVE_SECONDS / 2)
    finally:
        server.signal(signal.SIGCONT)
    assert left == 5


async def test_rows_wait_while_the_server_is_away_and_arrive_when_it_is_back(server: ClickHouseServer) -> None:
    registry = Registry()
    sink = ClickHouseSink(server.target, "word", LAYOUT, STATEMENTS)
    recorder = Recorder(QueueSettings(block_interval="10ms"), registry, SystemClock(), sink)
    recorder.start()
    recorder.put("decisions", rows(5, request_id="before"))
    await until_written(registry, 5)
    server.kill()
    recorder.put("decisions", rows(5, request_id="while away"))
    server.start()
    recorder.put("decisions", rows(5, request_id="after"))
    assert await recorder.drain(60) == 0
    found = await read(
        server,
        "SELECT request_id, count() AS n FROM decisions "
        "WHERE request_id IN ('before', 'while away', 'after') GROUP BY request_id",
    )
    assert {row["request_id"]: row["n"] for row in found} == {"before": 5, "while away": 5, "after": 5}

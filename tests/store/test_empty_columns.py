"""Columns that are left out of an INSERT, as nothing is in them, are in each row what they would have been."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from mixer_py.telemetry.column import Column
from mixer_py.telemetry.columns import TABLES
from mixer_py.telemetry.rollups import ROLLUPS, Rollup
from tests.store.store_process import StoreProcess

pytestmark = pytest.mark.chdb

MINUTE = 60 * 10**9
EARLY = 1_790_000_040 * 10**9
LATE = EARLY + 10 * MINUTE
ROWS = 50
FILLED = {
    "requests": {"request_id": "r", "destination_service_name": "reviews", "verdict": "deny", "response_code": 403,
                 "limit_name": "l", "limit_code": "OK"},
    "connections": {"connection_id": "c", "connection_event": "open", "connection_mtls": True},
    "decisions": {"decision_id": "d", "rule": "r", "duration_us": 2.5},
}  # fmt: skip


def something(column: Column) -> Any:
    """A value that is not the default, of any type."""
    if column.kind.is_map:
        return [("name", "value")]
    if column.kind.default is False:
        return True
    return "x" if column.kind.is_text else 1


def block(table: str, begin: int, *, whole: bool) -> pa.RecordBatch:
    """Rows with few values; if `whole`, and one behind them, an hour later, that has all, so that nothing is empty."""
    columns = TABLES[table].columns
    arrays = []
    for column in columns:
        values = [FILLED[table].get(column.name, column.kind.default)] * ROWS
        if column.name == "timestamp":
            values = [begin + number for number in range(ROWS)]
        if whole:
            values.append(begin + 60 * MINUTE if column.name == "timestamp" else something(column))
        arrays.append(pa.array(values, column.kind.arrow))
    return pa.RecordBatch.from_arrays(arrays, schema=TABLES[table].schema)


@pytest.mark.parametrize("table", list(TABLES))
async def test_rows_and_rollups_are_the_same_with_and_without_empty_columns(running: StoreProcess, table: str) -> None:
    await running.client.write(table, block(table, LATE, whole=True), "whole")
    for _ in range(3):  # a token counts once, whatever is left out
        await running.client.write(table, block(table, EARLY, whole=False), "lean")

    async def rows_at(begin: int) -> list[dict[str, Any]]:
        return await running.ask(
            f"SELECT * EXCEPT timestamp, toUnixTimestamp64Nano(timestamp) - {begin} AS number FROM {table} "
            f"WHERE number BETWEEN 0 AND {ROWS - 1} ORDER BY number"
        )

    lean = await rows_at(EARLY)
    assert len(lean) == ROWS
    assert all(FILLED[table].items() <= row.items() for row in lean)
    assert lean == await rows_at(LATE)
    for rollup in ROLLUPS:
        if rollup.source.name == table:
            early, late = [await running.ask(sums(rollup, begin)) for begin in (EARLY, LATE)]
            assert early
            assert early == late


def sums(rollup: Rollup, begin: int) -> str:
    """What a roll-up says of a minute."""
    measures = (
        f"finalizeAggregation({measure.name})" if measure.state.startswith("AggregateFunction") else measure.name
        for measure in rollup.measures
    )
    minute = f"minute = fromUnixTimestamp({begin // 10**9})"
    return f"SELECT {', '.join((*rollup.key, *measures))} FROM {rollup.name} FINAL WHERE {minute} ORDER BY ALL"

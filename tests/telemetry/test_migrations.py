"""A database of an older version becomes one of this, keeps its rows, and is left alone afterwards; on a real chDB."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.chdb

SCRIPT = """
import json, sys
import chdb
import pyarrow as pa
from mixer_py.errors import MigrationError
from mixer_py.telemetry.columns import TABLES
from mixer_py.telemetry.layout import Layout
from mixer_py.telemetry.migrations import migrate
from mixer_py.telemetry.store.connection import read_rows

connection = chdb.connect(sys.argv[1])
ask = lambda sql: read_rows(connection, sql)

def insert(name, *rows, token):
    table = TABLES[name]
    defaults = {column.name: column.kind.default for column in table.columns}
    filled = pa.Table.from_pylist([defaults | row for row in rows], schema=table.schema)
    connection.query(
        f"INSERT INTO mesh.{name} SETTINGS insert_deduplication_token = '{token}', "
        f"deduplicate_blocks_in_dependent_materialized_views = 1 SELECT * FROM Python(filled)"
    )

told = []
for kind, argument in json.loads(sys.argv[2]):
    if kind == "migrate":
        try:
            told.append(list(migrate(Layout("mesh", argument), ask, connection.query)))
        except MigrationError as error:
            told.append(str(error))
    elif kind == "run":
        connection.query(argument)
    elif kind == "insert":
        name, rows, token = argument
        insert(name, *rows, token=token)
    else:
        told.append(ask(argument))
print(json.dumps(told))
connection.close()
"""


def run(folder: Path, *steps: tuple[str, Any]) -> list[Any]:
    """What each `migrate` and each `ask` of the steps gave."""
    command = [sys.executable, "-c", SCRIPT, str(folder / "chdb"), json.dumps(steps)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    told: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_a_new_database_is_made_once(tmp_path):
    first, second, history = run(
        tmp_path, ("migrate", {}), ("migrate", {}), ("ask", "SELECT count() AS n FROM mesh.schema_history")
    )
    assert first == second == []
    assert history == [{"n": 1}]


def test_a_database_of_an_older_version_keeps_its_rows(tmp_path):
    changes, again, rows, views, order = run(
        tmp_path,
        ("migrate", {}),
        ("insert", ("requests", [{"request_id": "old"}], "a")),
        ("run", "ALTER TABLE mesh.requests DROP INDEX by_decision_id"),
        ("run", "DROP VIEW mesh.request_decisions"),
        ("run", "ALTER TABLE mesh.requests DROP COLUMN route_name, DROP COLUMN origin_ip"),
        ("run", "ALTER TABLE mesh.services_by_minute DROP COLUMN failed"),
        ("run", "TRUNCATE TABLE mesh.schema_history"),
        ("migrate", {}),
        ("migrate", {}),
        ("ask", "SELECT request_id, route_name, origin_ip FROM mesh.requests"),
        ("ask", "SELECT count() AS n FROM mesh.request_decisions"),
        ("ask", "SELECT name FROM system.columns WHERE table = 'requests' AND database = 'mesh' ORDER BY position"),
    )[1:]
    assert [change.split()[3:8] for change in changes] == [
        ["ADD", "COLUMN", "IF", "NOT", "EXISTS"],
        ["ADD", "COLUMN", "IF", "NOT", "EXISTS"],
        ["ADD", "INDEX", "by_decision_id", "decision_id", "TYPE"],
        ["ADD", "COLUMN", "IF", "NOT", "EXISTS"],
    ]
    assert again == []
    assert rows == [{"request_id": "old", "route_name": "", "origin_ip": ""}]
    assert views == [{"n": 1}]
    from mixer_py.telemetry.columns import REQUESTS

    assert [row["name"] for row in order] == list(REQUESTS.names)


def test_a_column_that_this_version_does_not_know_stays(tmp_path):
    told = run(
        tmp_path,
        ("migrate", {}),
        ("run", "ALTER TABLE mesh.requests ADD COLUMN of_tomorrow String DEFAULT 'x'"),
        ("run", "TRUNCATE TABLE mesh.schema_history"),
        ("migrate", {}),
        ("run", "INSERT INTO mesh.requests (request_id) VALUES ('r')"),
        ("ask", "SELECT of_tomorrow FROM mesh.requests"),
    )
    assert told[1:] == [[], [{"of_tomorrow": "x"}]]


def test_a_column_of_another_type_is_refused_and_nothing_is_changed(tmp_path):
    told = run(
        tmp_path,
        ("migrate", {}),
        ("run", "ALTER TABLE mesh.decisions MODIFY COLUMN http_status UInt64"),
        ("run", "TRUNCATE TABLE mesh.schema_history"),
        ("migrate", {"requests": 86_400}),
        ("ask", "SELECT engine_full LIKE '%TTL%' AS lives FROM system.tables WHERE name = 'requests'"),
    )
    assert "table mesh.decisions was made by another version: http_status is UInt64 and not UInt16" in told[1]
    assert told[2] == [{"lives": 0}]


def test_retention_follows_the_settings(tmp_path):
    long_ago, day = 1_600_000_000 * 10**9, {"requests": 86_400}
    lives = (
        "ask",
        "SELECT engine_full LIKE '%toIntervalSecond(86400)%' AS lives FROM system.tables WHERE name = 'requests'",
    )
    rows = ("ask", "SELECT count() AS n FROM mesh.requests")
    told = run(
        tmp_path,
        ("migrate", {}),
        ("insert", ("requests", [{"timestamp": long_ago}], "a")),
        lives,
        ("migrate", day),
        lives,
        ("run", "OPTIMIZE TABLE mesh.requests FINAL"),
        rows,
        ("migrate", day),
        ("migrate", {}),
        lives,
    )
    assert [answer for answer in told if answer and "lives" in answer[0]] == [
        [{"lives": 0}], [{"lives": 1}], [{"lives": 0}]
    ]  # fmt: skip
    assert [{"n": 0}] in told


def request(minute: int, **more: object) -> dict[str, object]:
    return {"timestamp": (1_790_000_000 // 60 + minute) * 60 * 10**9, "destination_service_name": "reviews"} | more


def test_rollups_sum_up_by_the_minute_and_count_a_block_sent_again_once(tmp_path):
    block = (
        "requests",
        [
            request(0, verdict="allow", response_code=200, response_duration=1000, source_workload_name="a"),
            request(0, verdict="deny", response_code=403, response_duration=3000, source_workload_name="a"),
            request(1, verdict="allow", response_code=503, response_duration=9000, source_workload_name="b",
                    limit_name="l", limit_code="OK", limit_remaining=4),
            request(1, verdict="allow", response_code=429, response_duration=10, source_workload_name="b",
                    limit_name="l", limit_code="OVER_LIMIT", limit_remaining=0),
        ],
        "block",
    )  # fmt: skip
    decided = ("decisions", [request(0, verdict="deny", rule="r", duration_us=5.0)], "decided")
    decided[1][0].pop("destination_service_name")
    services, edges, limits, policies = run(
        tmp_path,
        ("migrate", {}),
        ("insert", block),
        ("insert", block),
        ("insert", decided),
        ("insert", decided),
        ("ask", ("SELECT minute = toStartOfMinute(minute) AS whole, sum(requests) AS requests, sum(denied) AS denied,"
                " sum(failed) AS failed, sum(limited) AS limited,"
                " quantilesTDigestMerge(0.5, 0.9, 0.95, 0.99, 0.999)(durations)[5] AS slowest"
                " FROM mesh.services_by_minute GROUP BY minute ORDER BY minute")),
        ("ask", ("SELECT source_workload_name AS source, sum(requests) AS requests FROM mesh.edges_by_minute"
                " GROUP BY source ORDER BY source")),
        ("ask", ("SELECT limit_code, sum(requests) AS requests, min(least_remaining) AS least"
                " FROM mesh.limits_by_minute GROUP BY limit_code ORDER BY limit_code")),
        ("ask", "SELECT rule, verdict, sum(decisions) AS decisions FROM mesh.policies_by_minute GROUP BY ALL"),
    )[1:]  # fmt: skip
    assert [{**row, "slowest": round(row["slowest"])} for row in services] == [
        {"whole": 1, "requests": 2, "denied": 1, "failed": 0, "limited": 0, "slowest": 3000},
        {"whole": 1, "requests": 2, "denied": 0, "failed": 1, "limited": 1, "slowest": 9000},
    ]
    assert edges == [{"source": "a", "requests": 2}, {"source": "b", "requests": 2}]
    assert limits == [
        {"limit_code": "OK", "requests": 1, "least": 4}, {"limit_code": "OVER_LIMIT", "requests": 1, "least": 0}
    ]  # fmt: skip
    assert policies == [{"rule": "r", "verdict": "deny", "decisions": 1}]

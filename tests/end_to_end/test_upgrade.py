"""A mixer of today on what an older one left: its tables, its rows, and its spool, after a kill.

`older/COMMIT` is what that commit of this repository made when it was run: each statement that it gave ClickHouse, with
ten rows a table, and a spool with 40 rows of requests and 5 decisions. `ccfd081` knew neither roll-ups nor migrations,
and its spool had another form; `5f487dd` had the forms of today, and some columns less. A version that changes a form
again leaves its own folder here.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mixer_py.telemetry.columns import TABLES
from mixer_py.telemetry.rollups import ROLLUPS
from tests.parts.grpc_client import connect
from tests.parts.mixer_process import Mixer, eventually
from tests.parts.rows_sent import PATIENT, booked, message

pytestmark = pytest.mark.chdb

OLDER = Path(__file__).parent / "older"
RUN = """
import sys, chdb
connection = chdb.connect(sys.argv[1])
for statement in open(sys.argv[2]).read().split(";\\n\\n"):
    connection.query(statement)
connection.close()
"""
SPOOLED = {"requests": 40, "decisions": 5}


def left_by(commit: str, make_mixer) -> Mixer:
    """A mixer that is not started, over the files of an older one."""
    mixer: Mixer = make_mixer(telemetry={"spool": {"directory": "spool", "mode": "always"}}, server=PATIENT)
    command = (sys.executable, "-c", RUN, str(mixer.folder / "chdb"), str(OLDER / commit / "database.sql"))
    subprocess.run(command, check=True, timeout=240)
    shutil.copytree(OLDER / commit / "spool", mixer.folder / "spool")
    return mixer


def rows_of(mixer: Mixer, table: str) -> list[dict[str, Any]]:
    """Its rows from before, as far as the older version had filled them, and what a new column says of them."""
    filled = {
        "requests": "request_id, decision_id, verdict, rule, source_workload_name, response_code, response_duration, "
        "request_auth_claims, destination_labels, rbac_permissive_response_code, quota_remaining, "
        "response_time = 0 AS no",
        "decisions": "request_id, decision_id, verdict, rule, duration_us, shadow_verdict",
        "connections": "connection_id, connection_event, connection_sent_bytes, connection_mtls, source_labels",
    }
    key = TABLES[table].indexed[0]
    where = f"toUnixTimestamp(timestamp) BETWEEN 1790000000 AND 1790000009 AND {key} LIKE '%-%'"
    return mixer.rows(f"SELECT {filled[table]} FROM {table} WHERE {where} ORDER BY timestamp")


def schema(mixer: Mixer) -> list[dict[str, Any]]:
    columns = "SELECT table, name, type, position FROM system.columns WHERE database = 'mesh' ORDER BY table, position"
    history = "SELECT schema AS name, at FROM schema_history ORDER BY at"
    views = "SELECT name, uuid FROM system.tables WHERE database = 'mesh' ORDER BY name"
    return [row for sql in (columns, history, views) for row in mixer.rows(sql)]


def stop(mixer: Mixer) -> None:
    assert mixer.running.stop(60) == 0


@pytest.mark.parametrize("commit", ["ccfd081", "5f487dd"])
def test_tables_of_an_older_mixer_become_those_of_today_and_keep_their_rows(commit, make_mixer):
    mixer = left_by(commit, make_mixer)
    mixer.start()
    there: dict[str, list[str]] = {}
    for row in schema(mixer):
        there.setdefault(row.get("table", ""), []).append(row["name"])
    assert {name: there[name] for name in TABLES} == {name: list(table.names) for name, table in TABLES.items()}
    assert {rollup.name for rollup in ROLLUPS} <= set(there)
    requests = rows_of(mixer, "requests")
    assert requests == [
        {
            "request_id": f"old-{number}", "decision_id": f"d-{number}", "verdict": "deny",
            "rule": "data.envoy.authz.allow", "source_workload_name": "web", "response_code": 403,
            "response_duration": 1500, "request_auth_claims": {}, "destination_labels": {},
            "rbac_permissive_response_code": "", "quota_remaining": None, "no": 1,
        }
        for number in range(10)
    ]  # fmt: skip
    decisions = rows_of(mixer, "decisions")
    assert [row["decision_id"] for row in decisions] == [f"d-{number}" for number in range(10)]
    assert {row["duration_us"] for row in decisions} == {12.5}
    assert len(rows_of(mixer, "connections")) == (10 if commit == "5f487dd" else 0)
    assert "old-3" in mixer.run("why", "old-3").stdout

    with connect(mixer.address) as client:
        client.log([message(0, 20)])
    eventually(lambda: mixer.rows("SELECT 1 FROM requests WHERE request_id = 'r19'"), "rows of today beside them")
    before = schema(mixer)
    stop(mixer)
    mixer.start()
    assert schema(mixer) == before
    assert rows_of(mixer, "requests") == requests
    assert mixer.rows("SELECT count() AS n FROM requests WHERE startsWith(request_id, 'r')") == [{"n": 20}]


def test_the_spool_of_an_older_mixer_is_written_with_defaults_in_the_columns_that_it_did_not_know(make_mixer):
    mixer = left_by("5f487dd", make_mixer)
    mixer.start()
    for table, rows in SPOOLED.items():
        eventually(
            lambda table=table, rows=rows: mixer.metric("mixer_rows_total", table=table, state="written") == rows,
            f"the spool's rows of {table}",
        )
        assert mixer.metric("mixer_rows_total", table=table, state="received") == rows
    assert booked(mixer, "dropped") == 0
    stop(mixer)
    mixer.start()
    sql = "SELECT request_id, destination_service_name AS service, response_code, mapKeys(source_labels) AS labels"
    found = mixer.rows(f"{sql} FROM requests WHERE match(request_id, 'old-1..') ORDER BY timestamp")
    assert found == [
        {"request_id": f"old-{number}", "service": "reviews", "response_code": 200, "labels": []}
        for number in range(100, 140)
    ]
    assert booked(mixer, "received") == 0, "nothing is replayed a second time"
    assert mixer.rows("SELECT sum(requests) AS n FROM services_by_minute") == [{"n": 50}]


def test_a_spool_of_another_form_is_refused_counted_and_kept_for_the_version_that_wrote_it(make_mixer):
    mixer = left_by("ccfd081", make_mixer)
    mixer.start()
    eventually(lambda: mixer.metric("mixer_store_errors_total", reason="spool_damaged") == 2, "two files refused")
    kept = sorted(file.name.split("-")[0] for file in (mixer.folder / "spool").glob("*/*.segment.damaged"))
    assert kept == ["decisions", "requests"]
    assert "mixer-spool-1" in mixer.running.tail()
    stop(mixer)
    mixer.start()
    with connect(mixer.address) as client:
        client.log([message(0, 20)])
    eventually(lambda: booked(mixer, "written") == 20, "rows of today")
    assert mixer.metric("mixer_store_errors_total", reason="spool_damaged") == 0
    assert len(list((mixer.folder / "spool").glob("*/*.segment.damaged"))) == 2

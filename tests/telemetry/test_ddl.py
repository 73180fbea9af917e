"""The product's own DDL on a real chDB, in a process of its own: one process opens one folder, once."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mixer_py.telemetry.columns import TABLES
from mixer_py.telemetry.ddl import create_statements, literal
from mixer_py.telemetry.layout import Layout
from mixer_py.telemetry.rollups import ROLLUPS

SCRIPT = """
import json, sys
import chdb, pyarrow as pa
from mixer_py.telemetry.columns import TABLES
from mixer_py.telemetry.ddl import create_statements
from mixer_py.telemetry.layout import Layout

connection = chdb.connect(sys.argv[1])
for _ in range(2):
    for statement in create_statements(Layout("mesh")):
        connection.query(statement)
for name, rows in json.loads(sys.argv[2]).items():
    table = TABLES[name]
    defaults = {column.name: column.kind.default for column in table.columns}
    filled = pa.Table.from_pylist([defaults | row for row in rows], schema=table.schema)
    if rows:
        connection.query(f"INSERT INTO mesh.{name} SELECT * FROM Python(filled)")
found = [connection.query(query, "JSON").data() for query in json.loads(sys.argv[3])]
print(json.dumps([json.loads(text)["data"] for text in found]))
connection.close()
"""


def run(folder, rows, *queries):
    command = [sys.executable, "-c", SCRIPT, str(folder / "chdb"), json.dumps(rows), json.dumps(queries)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_database_has_a_plain_name():
    for name in ("", "a b", "mesh; DROP TABLE x", "0a", "`mesh`"):
        with pytest.raises(ValueError, match="cannot be a database's name"):
            Layout(name)
        if name:
            with pytest.raises(ValueError, match="cannot be a cluster's name"):
                Layout("mesh", cluster=name)


@pytest.mark.chdb
def test_tables_are_made_once_with_their_columns_and_remember_tokens(tmp_path):
    columns, engines, indexes, old = run(
        tmp_path,
        {"requests": [{"timestamp": stamp, "request_id": "r"} for stamp in (0, 10**18, 9_223_372_035 * 10**9)]},
        "SELECT table, name, type, comment FROM system.columns WHERE database = 'mesh'"
        " AND table IN ('connections', 'decisions', 'requests') ORDER BY table, position",
        "SELECT name, engine_full, comment FROM system.tables WHERE database = 'mesh' ORDER BY name",
        "SELECT table, type FROM system.data_skipping_indices WHERE database = 'mesh' ORDER BY table, expr",
        "SELECT toString(timestamp) AS at FROM mesh.requests ORDER BY timestamp",
    )
    wanted = [
        {"table": table.name, "name": column.name, "type": column.kind.clickhouse, "comment": column.meaning}
        for table in sorted(TABLES.values(), key=lambda table: table.name)
        for column in table.columns
    ]
    assert columns == wanted
    rollups = {rollup.name for rollup in ROLLUPS}
    holding = {*TABLES, *rollups}
    assert {engine["name"] for engine in engines} == {
        *holding,
        "request_decisions",
        *(f"{name}_mv" for name in rollups),
    }
    for engine in engines:
        if engine["name"] in holding:
            assert "non_replicated_deduplication_window = 10000" in engine["engine_full"]
            assert "PARTITION" not in engine["engine_full"]
    assert len(indexes) == 6
    assert {index["type"] for index in indexes} == {"bloom_filter"}
    assert [row["at"][:4] for row in old] == ["1970", "2001", "2262"]


def entry(request_id, verdict, decision_id="", **more):
    return {"request_id": request_id, "verdict": verdict, "decision_id": decision_id} | more


def decision(decision_id, request_id, verdict, **more):
    return {"decision_id": decision_id, "request_id": request_id, "verdict": verdict} | more


CASES = {
    "agrees": (entry("a", "allow", "d1", rule="r"), [decision("d1", "a", "allow", rule="r")], "decision_id", 0),
    "verdict differs": (entry("v", "allow", "d2"), [decision("d2", "v", "deny")], "decision_id", 1),
    "revision differs": (entry("p", "allow", "d3", policy_revision="a"),
                         [decision("d3", "p", "allow", policy_revision="b")], "decision_id", 1),
    "rule differs": (entry("u", "deny", "d4", rule="a"), [decision("d4", "u", "deny", rule="b")], "decision_id", 1),
    "rule hidden": (entry("h", "deny", "d5"), [decision("d5", "h", "deny", rule="b")], "decision_id", 1),
    "rule cut short": (entry("c", "deny", "d6", rule="long"), [decision("d6", "c", "deny", rule="longer")],
                       "decision_id", 0),
    "no metadata, denied by an error": (entry("e", "error"), [decision("d7", "e", "error")], "request_id", 0),
    "bypassed after an error": (entry("b", "bypassed"), [decision("d8", "b", "error")], "request_id", 0),
    "bypassed a denial": (entry("bd", "bypassed"), [decision("d9", "bd", "deny")], "request_id", 1),
    "says nothing": (entry("n", "none"), [decision("d10", "n", "allow")], "request_id", 0),
    "never issued": (entry("i", "allow", "forged"), [decision("d11", "i", "allow")], "request_id", 1),
    "nobody decided": (entry("x", "allow", "unknown"), [], "", 0),
    "no ids at all": (entry("", "none"), [decision("d12", "", "deny")], "", 0),
    "two decisions, the latest counts": (
        entry("two", "error"),
        [decision("d13", "two", "allow", timestamp=1), decision("d14", "two", "error", timestamp=2)], "request_id", 0),
}  # fmt: skip


@pytest.mark.chdb
def test_the_view_joins_by_decision_else_by_request_and_flags_disagreement(tmp_path):
    requests = [one | {"route_name": name} for name, (one, *_) in CASES.items()]
    decisions = [one for _, (_, some, *_) in CASES.items() for one in some]
    (found,) = run(
        tmp_path,
        {"requests": requests, "decisions": decisions},
        "SELECT route_name, joined_by, disagrees, verdict, decided_verdict FROM mesh.request_decisions",
    )
    assert len(found) == len(CASES)
    assert {row["route_name"]: (row["joined_by"], row["disagrees"]) for row in found} == {
        name: (joined_by, disagrees) for name, (_, _, joined_by, disagrees) in CASES.items()
    }


@pytest.mark.chdb
def test_what_a_cluster_is_told_is_clickhouse(tmp_path):
    """No cluster runs here: chDB at least parses every statement, and each is for all servers."""
    statements = create_statements(Layout("mesh", {"requests": 86_400}, "prod"))
    run(tmp_path, {}, *(f"SELECT formatQuery({literal(statement)})" for statement in statements))
    assert all("ON CLUSTER 'prod'" in statement for statement in statements)
    made = "\n".join(statements)
    for table in (*TABLES, *(rollup.name for rollup in ROLLUPS)):
        assert f"mesh.{table}_local ON CLUSTER 'prod' (" in made
        assert f"Distributed('prod', 'mesh', '{table}_local', rand())" in made
    assert made.count("ENGINE = Replicated") == len(TABLES) + len(ROLLUPS)
    assert "GLOBAL LEFT ANY JOIN" in made

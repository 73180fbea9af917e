"""Brings a database to the tables of this version: makes what is missing, adds columns, and remembers what it did.

A version is what all statements together say, so that adding a column is one line in the table of columns and its
migration follows. A database that has this version already is left alone. What cannot be changed without touching
rows, such as a column of another type, is refused. A column that this version does not know stays, with its rows: an
older mixer may run beside, or again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

from mixer_py.errors import MigrationError
from mixer_py.telemetry.column import TableOfColumns
from mixer_py.telemetry.columns import TABLES
from mixer_py.telemetry.ddl import (
    MINUTE,
    ROLLUPS_KEPT,
    VIEW,
    column_definition,
    index_definition,
    literal,
    rollup_columns,
    table_statements,
    time_to_live,
    view_statements,
)
from mixer_py.telemetry.layout import Layout
from mixer_py.telemetry.rollups import ROLLUPS, Rollup

HISTORY: Final = "schema_history"
"""The table that remembers versions."""

Row = Mapping[str, Any]
Ask = Callable[[str], Sequence[Row]]
"""Runs a SELECT; its rows."""
Run = Callable[[str], object]
"""Runs a statement."""


def schema_version(layout: Layout) -> str:
    """A short name of everything that the statements say."""
    statements = (*table_statements(layout), *view_statements(layout))
    return hashlib.sha256("\0".join(statements).encode()).hexdigest()[:16]


def migrate(layout: Layout, ask: Ask, run: Run, settle: Callable[[], object] = lambda: None) -> tuple[str, ...]:
    """Brings a database to this version.

    Args:
        layout: the database.
        ask: runs a SELECT.
        run: runs a statement.
        settle: makes sure of all that was changed, before the database is said to have this version.

    Returns:
        The statements that changed something; none when the database has this version already.

    Raises:
        MigrationError: tables are there that this version cannot use or change.
    """
    wanted = schema_version(layout)
    if _current(layout, ask) == wanted:
        return ()
    for statement in table_statements(layout):
        run(statement)
    run(_history(layout))
    changes = [*_changes(layout, ask)]
    for statement in changes:
        run(statement)
    for name in (VIEW, *(f"{rollup.name}_mv" for rollup in ROLLUPS)):
        run(f"DROP TABLE IF EXISTS {layout.database}.{name}{layout.on_cluster}")
    for statement in view_statements(layout):
        run(statement)
    settle()
    run(
        f"INSERT INTO {layout.stored(HISTORY)} (schema, mixer, changes) VALUES "  # noqa: S608 (literals)
        f"({literal(wanted)}, {literal(version('mixer-py'))}, {literal(json.dumps(changes))})"
    )
    return tuple(changes)


def _history(layout: Layout) -> str:
    return (
        f"CREATE TABLE IF NOT EXISTS {layout.stored(HISTORY)}{layout.on_cluster} (\n"
        "    at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when it was reached',\n"
        "    schema String COMMENT 'version of tables, roll-ups and views together',\n"
        "    mixer String COMMENT 'version of mixer-py that reached it',\n"
        "    changes String COMMENT 'statements that changed tables, as JSON'\n"
        f") ENGINE = {layout.engine('MergeTree')} ORDER BY at\n"
        "COMMENT 'Versions that this database has had'"
    )


def _current(layout: Layout, ask: Ask) -> str:
    """The version that the database has; empty for none."""
    table = layout.stored(HISTORY).partition(".")[2]
    there = ask(
        f"SELECT name FROM system.tables WHERE database = {literal(layout.database)} AND name = {literal(table)}"  # noqa: S608 (literals)
    )
    if not there:
        return ""
    rows = ask(f"SELECT schema FROM {layout.stored(HISTORY)} ORDER BY at DESC LIMIT 1")  # noqa: S608 (a checked name)
    return str(rows[0]["schema"]) if rows else ""


def _changes(layout: Layout, ask: Ask) -> Iterator[str]:
    """What makes tables that are there already those of this version."""
    columns = _columns_there(layout, ask)
    indexes = _indexes_there(layout, ask)
    for table in TABLES.values():
        there = columns[layout.stored(table.name)]
        yield from _new_columns(layout, table.name, _wanted(table), there)
        for name in table.indexed:
            if f"by_{name}" not in indexes.get(layout.stored(table.name), set()):
                yield _alter(layout, table.name, f"ADD {index_definition(name)}")
        yield from _lifetime(layout, ask, table.name, "timestamp")
    for rollup in ROLLUPS:
        there = columns[layout.stored(rollup.name)]
        _refuse_another_key(layout, rollup, there)
        yield from _new_columns(layout, rollup.name, _wanted_of_rollup(rollup), there)
        yield from _lifetime(layout, ask, rollup.name, MINUTE)


def _wanted(table: TableOfColumns) -> dict[str, tuple[str, str]]:
    """Type and definition of each column."""
    return {column.name: (column.kind.clickhouse, column_definition(column)) for column in table.columns}


def _wanted_of_rollup(rollup: Rollup) -> dict[str, tuple[str, str]]:
    kinds = {column.name: column.kind.clickhouse for column in rollup.source.columns}
    types = {MINUTE: "DateTime('UTC')", **{name: kinds[name] for name in rollup.key}}
    types |= {measure.name: measure.state for measure in rollup.measures}
    return {name: (types[name], definition) for name, definition in rollup_columns(rollup).items()}


def _new_columns(
    layout: Layout, table: str, wanted: Mapping[str, tuple[str, str]], there: Mapping[str, str]
) -> Iterator[str]:
    """Adds what is missing, each behind the column that stands before it.

    Raises:
        MigrationError: a column has another type.
    """
    other = {name: there[name] for name, (kind, _) in wanted.items() if name in there and there[name] != kind}
    if other:
        told = ", ".join(f"{name} is {kind} and not {wanted[name][0]}" for name, kind in sorted(other.items()))
        raise MigrationError(
            f"table {layout.stored(table)} was made by another version: {told}; move the table away (RENAME TABLE), "
            "or use the version that made it"
        )
    before = "FIRST"
    for name, (_, definition) in wanted.items():
        if name not in there:
            change = f"ADD COLUMN IF NOT EXISTS {definition} {before}"
            yield _alter(layout, table, change)
            if layout.cluster:
                yield f"ALTER TABLE {layout.read(table)}{layout.on_cluster} {change}"
        before = f"AFTER {name}"


def _refuse_another_key(layout: Layout, rollup: Rollup, there: Mapping[str, str]) -> None:
    missing = [name for name in (MINUTE, *rollup.key) if name not in there]
    if missing:
        raise MigrationError(
            f"table {layout.stored(rollup.name)} was made by another version, without {', '.join(missing)} in its key; "
            "drop it, and mixer makes it anew: it holds sums only, of rows that are still in "
            f"{layout.read(rollup.source.name)}"
        )


def _lifetime(layout: Layout, ask: Ask, table: str, moment: str) -> Iterator[str]:
    """Changes how long rows are kept, where that is not what the layout says."""
    name = layout.stored(table).partition(".")[2]
    (row,) = ask(
        f"SELECT engine_full FROM system.tables WHERE database = {literal(layout.database)} AND name = {literal(name)}"  # noqa: S608 (literals)
    )
    wanted = time_to_live(layout, ROLLUPS_KEPT if moment == MINUTE else table, moment)
    has = str(row["engine_full"]).partition(" TTL ")[2].partition(" SETTINGS ")[0]
    if wanted and has != wanted:
        yield _alter(layout, table, f"MODIFY TTL {wanted} SETTINGS materialize_ttl_after_modify = 0")
    elif has and not wanted:
        yield _alter(layout, table, "REMOVE TTL")


def _alter(layout: Layout, table: str, change: str) -> str:
    return f"ALTER TABLE {layout.stored(table)}{layout.on_cluster} {change}"


def _columns_there(layout: Layout, ask: Ask) -> dict[str, dict[str, str]]:
    """Types by column, by table with its database."""
    found: dict[str, dict[str, str]] = {}
    for row in ask(f"SELECT table, name, type FROM system.columns WHERE database = {literal(layout.database)}"):  # noqa: S608 (a literal)
        found.setdefault(f"{layout.database}.{row['table']}", {})[str(row["name"])] = str(row["type"])
    return found


def _indexes_there(layout: Layout, ask: Ask) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    sql = f"SELECT table, name FROM system.data_skipping_indices WHERE database = {literal(layout.database)}"  # noqa: S608 (a literal)
    for row in ask(sql):
        found.setdefault(f"{layout.database}.{row['table']}", set()).add(str(row["name"]))
    return found

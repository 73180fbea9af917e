"""The statements that make tables, roll-ups and the view, from the table of columns.

No PARTITION BY: a batch is then one part, written whole or not at all, and an entry whose clock is years off
cannot spread it over more partitions than the server allows.
Not for: running them, or changing tables that exist (`migrations.py`).
"""

from __future__ import annotations

from typing import Final

from mixer_py.telemetry.column import Column, TableOfColumns
from mixer_py.telemetry.columns import REQUESTS, TABLES
from mixer_py.telemetry.decision_columns import DECISIONS
from mixer_py.telemetry.layout import LOCAL, Layout
from mixer_py.telemetry.rollups import ROLLUPS, Measure, Rollup

DEDUPLICATION_WINDOW: Final = 10_000
"""Insert tokens that a table remembers: a batch that is sent again within so many batches is stored once."""

VIEW: Final = "request_decisions"
ROLLUPS_KEPT: Final = "rollups"
"""The name by which a layout says how long roll-ups are kept."""
MINUTE: Final = "minute"
"""The column of a roll-up that says which minute it sums up."""

_DECIDED: Final = tuple(
    name
    for name in DECISIONS.names
    if name in {"timestamp", "decision_id", "verdict", "decision", "rule", "reasons", "error", "policy_revision",
                "http_status", "quota_name", "quota_code", "quota_remaining", "tier", "cache", "dry_run", "duration_us"}
)  # fmt: skip
"""Columns of `decisions` that the view shows, each with the prefix `decided_`."""


def table_statements(layout: Layout) -> tuple[str, ...]:
    """Statements that make database, tables and targets of roll-ups where they are missing, in order."""
    statements = [f"CREATE DATABASE IF NOT EXISTS {layout.database}{layout.on_cluster}"]
    for table in TABLES.values():
        statements.append(_table(layout, table))
        statements += _distributed(layout, table.name)
    for rollup in ROLLUPS:
        statements.append(_target(layout, rollup))
        statements += _distributed(layout, rollup.name)
    return tuple(statements)


def view_statements(layout: Layout) -> tuple[str, ...]:
    """Statements that make what hangs on the tables and holds no rows itself: it may be made anew."""
    return (_view(layout), *(_materialized_view(layout, rollup) for rollup in ROLLUPS))


def create_statements(layout: Layout) -> tuple[str, ...]:
    """Statements that make everything where it is missing, in order."""
    return (*table_statements(layout), *view_statements(layout))


def column_definition(column: Column | Measure) -> str:
    """A column as CREATE TABLE and ADD COLUMN have it."""
    if isinstance(column, Measure):
        return f"{column.name} {column.state} COMMENT {literal(column.meaning)}"
    codec = f" CODEC({column.kind.codec})" if column.kind.codec else ""
    return f"{column.name} {column.kind.clickhouse}{codec} COMMENT {literal(column.meaning)}"


def literal(text: str) -> str:
    """A string as SQL writes it, whatever is in it."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def time_to_live(layout: Layout, kept_as: str, moment: str) -> str:
    """When rows are deleted, as TTL and MODIFY TTL have it; empty for never.

    Args:
        layout: says how long they are kept.
        kept_as: name of their table, or ROLLUPS_KEPT.
        moment: the column that says how old they are.
    """
    seconds = layout.retention.get(kept_as)
    return f"toDateTime({moment}) + toIntervalSecond({seconds})" if seconds else ""


def _settings(layout: Layout) -> str:
    if layout.cluster:
        return (
            f"SETTINGS replicated_deduplication_window = {DEDUPLICATION_WINDOW}, "
            "replicated_deduplication_window_seconds = 604800"
        )
    return f"SETTINGS non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}"


def _holding(layout: Layout, name: str, lines: list[str], engine: str, order_by: str, moment: str, meaning: str) -> str:
    """A table that holds rows."""
    lives = time_to_live(layout, ROLLUPS_KEPT if moment == MINUTE else name, moment)
    return (
        f"CREATE TABLE IF NOT EXISTS {layout.stored(name)}{layout.on_cluster} (\n"
        + ",\n".join(f"    {line}" for line in lines)
        + f"\n) ENGINE = {layout.engine(engine)} ORDER BY {order_by}\n"
        + (f"TTL {lives}\n" if lives else "")
        + f"{_settings(layout)}\n"
        f"COMMENT {literal(meaning)}"
    )


def _table(layout: Layout, table: TableOfColumns) -> str:
    lines = [column_definition(column) for column in table.columns]
    lines += [index_definition(name) for name in table.indexed]
    return _holding(layout, table.name, lines, "MergeTree", table.order_by, "timestamp", table.meaning)


def index_definition(column: str) -> str:
    """The index by which rows of one value are found, as CREATE TABLE and ADD INDEX have it."""
    return f"INDEX by_{column} {column} TYPE bloom_filter(0.01) GRANULARITY 1"


def rollup_columns(rollup: Rollup) -> dict[str, str]:
    """Definition of each column of a roll-up's table, by its name, in order."""
    kinds = {column.name: column for column in rollup.source.columns}
    return {
        MINUTE: f"{MINUTE} DateTime('UTC') CODEC(Delta, ZSTD(1)) COMMENT 'start of the minute'",
        **{name: f"{name} {kinds[name].kind.clickhouse} COMMENT {literal(kinds[name].meaning)}" for name in rollup.key},
        **{measure.name: column_definition(measure) for measure in rollup.measures},
    }


def _target(layout: Layout, rollup: Rollup) -> str:
    order_by = f"({', '.join((MINUTE, *rollup.key))})"
    lines = list(rollup_columns(rollup).values())
    return _holding(layout, rollup.name, lines, "AggregatingMergeTree", order_by, MINUTE, rollup.meaning)


def _materialized_view(layout: Layout, rollup: Rollup) -> str:
    chosen = [f"toStartOfMinute(toDateTime(timestamp, 'UTC')) AS {MINUTE}", *rollup.key]
    chosen += [f"{measure.expression} AS {measure.name}" for measure in rollup.measures]
    where = f"\nWHERE {rollup.condition}" if rollup.condition else ""
    return (
        f"CREATE MATERIALIZED VIEW IF NOT EXISTS {layout.database}.{rollup.name}_mv{layout.on_cluster}\n"
        f"TO {layout.stored(rollup.name)} AS SELECT\n    " + ",\n    ".join(chosen) + "\n"
        f"FROM {layout.stored(rollup.source.name)}{where}\n"
        f"GROUP BY {', '.join((MINUTE, *rollup.key))}"
    )


def _distributed(layout: Layout, name: str) -> list[str]:
    """On a cluster, the table that asks all its servers."""
    if not layout.cluster:
        return []
    engine = f"Distributed('{layout.cluster}', '{layout.database}', '{name}{LOCAL}', rand())"
    return [
        f"CREATE TABLE IF NOT EXISTS {layout.read(name)}{layout.on_cluster} AS {layout.stored(name)} ENGINE = {engine}"
    ]


def _view(layout: Layout) -> str:
    """Each request with the decision behind it.

    By decision_id; where the log entry has none, or one that mixer never issued, by request_id, of which the latest
    counts: behind several proxies one request is decided several times. `disagrees` is true where the decision says
    something else than the entry, whose rule may be cut short, as metadata is limited. An entry without a verdict
    says nothing, and one that Envoy let through (`bypassed`) agrees with an error.
    """
    shown = [f"    entry.{name} AS {name}" for name in REQUESTS.names]
    shown += [
        f"    if(by_id.decision_id != '', by_id.{name}, by_request.{name}) AS decided_{name}" for name in _DECIDED
    ]
    kept = ", ".join(dict.fromkeys((*_DECIDED, "request_id")))
    decisions = f"(SELECT {kept} FROM {layout.read(DECISIONS.name)}"  # noqa: S608 (names of ours, and one checked)
    joined = "GLOBAL LEFT ANY JOIN" if layout.cluster else "LEFT ANY JOIN"  # else each server joins its own rows only
    return "\n".join((
        f"CREATE VIEW IF NOT EXISTS {layout.database}.{VIEW}{layout.on_cluster} AS SELECT",
        ",\n".join(shown) + ",",
        "    multiIf(by_id.decision_id != '', 'decision_id', by_request.decision_id != '', 'request_id', '')",
        "        AS joined_by,",
        "    joined_by != '' AND (",
        "        entry.decision_id != '' AND (entry.decision_id != decided_decision_id",
        "            OR entry.policy_revision != decided_policy_revision",
            "            OR empty(entry.rule) != empty(decided_rule) OR NOT startsWith(decided_rule, entry.rule))",
        "        OR entry.verdict != 'none' AND entry.verdict != decided_verdict",
        "            AND NOT (entry.verdict = 'bypassed' AND decided_verdict = 'error')",
        "    ) AS disagrees",
        f"FROM {layout.read(REQUESTS.name)} AS entry",
        f"{joined} {decisions} WHERE decision_id != '') AS by_id",
        "    ON entry.decision_id = by_id.decision_id",
        f"{joined} {decisions} WHERE request_id != ''",
        "    ORDER BY timestamp DESC LIMIT 1 BY request_id) AS by_request",
        "    ON entry.request_id = by_request.request_id",
    ))  # fmt: skip

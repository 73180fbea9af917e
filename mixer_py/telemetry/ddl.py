"""The statements that make the tables and the view, from the table of columns.

No PARTITION BY: a batch is then one part, written whole or not at all, and an entry whose clock is years off
cannot spread it over more partitions than the server allows.
Not for: running them, or changing tables that exist.
"""

from __future__ import annotations

import re
from typing import Final

from mixer_py.telemetry.columns import DECISIONS, REQUESTS, Column, TableOfColumns

DEDUPLICATION_WINDOW: Final = 10_000
"""Insert tokens that a table remembers: a batch that is sent again within so many batches is stored once."""

VIEW: Final = "request_decisions"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_DECIDED: Final = tuple(
    name
    for name in DECISIONS.names
    if name in {"timestamp", "decision_id", "verdict", "decision", "rule", "reasons", "error", "policy_revision",
                "http_status", "quota_name", "quota_code", "quota_remaining", "tier", "cache", "dry_run", "duration_us"}
)  # fmt: skip
"""Columns of `decisions` that the view shows, each with the prefix `decided_`."""


def create_statements(database: str) -> tuple[str, ...]:
    """Statements that make database, tables and view where they are missing, in order.

    Raises:
        ValueError: the database's name is not one that needs no quoting.
    """
    if _NAME.fullmatch(database) is None:
        raise ValueError(f"{database!r} cannot be a database's name; use letters, digits and underscores")
    return (
        f"CREATE DATABASE IF NOT EXISTS {database}",
        *(_table(database, table) for table in (REQUESTS, DECISIONS)),
        _view(database),
    )


def _column(column: Column) -> str:
    codec = f" CODEC({column.kind.codec})" if column.kind.codec else ""
    return f"    {column.name} {column.kind.clickhouse}{codec} COMMENT {literal(column.meaning)}"


def literal(text: str) -> str:
    """A string as SQL writes it, whatever is in it."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _table(database: str, table: TableOfColumns) -> str:
    lines = [_column(column) for column in table.columns]
    lines += [f"    INDEX by_{name} {name} TYPE bloom_filter(0.01) GRANULARITY 1" for name in table.indexed]
    return (
        f"CREATE TABLE IF NOT EXISTS {database}.{table.name} (\n"
        + ",\n".join(lines)
        + f"\n) ENGINE = MergeTree ORDER BY {table.order_by}\n"
        f"SETTINGS non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}\n"
        f"COMMENT {literal(table.meaning)}"
    )


def _view(database: str) -> str:
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
    decisions = f"(SELECT {kept} FROM {database}.{DECISIONS.name}"  # noqa: S608 (names of ours, and one checked)
    return "\n".join((
        f"CREATE VIEW IF NOT EXISTS {database}.{VIEW} AS SELECT",
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
        f"FROM {database}.{REQUESTS.name} AS entry",
        f"LEFT ANY JOIN {decisions} WHERE decision_id != '') AS by_id",
        "    ON entry.decision_id = by_id.decision_id",
        f"LEFT ANY JOIN {decisions} WHERE request_id != ''",
        "    ORDER BY timestamp DESC LIMIT 1 BY request_id) AS by_request",
        "    ON entry.request_id = by_request.request_id",
    ))  # fmt: skip

"""What holds for each table in chDB beyond its DDL, and is not a matter of tables' versions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mixer_py.telemetry.migrations import Ask, Run

_SETTINGS: Final = ("old_parts_lifetime = 480", "merge_selector_base = 20", "auto_statistics_types = ''")
"""The sources of a merge stay on disk for ClickHouse's own default (chDB's is within a minute); parts are merged about
20 at a time instead of 5, and no statistics of columns are kept, because merges cost more than inserts else
(docs/performance.md)."""


def set_up_tables(ask: Ask, run: Run, database: str, tables: Iterable[str]) -> None:
    """Gives tables these settings, where they have others; nothing is written where nothing changes."""
    there = {
        str(row["name"]): str(row["engine_full"])
        for row in ask(
            f"SELECT name, engine_full FROM system.tables WHERE database = '{database}'",  # noqa: S608 (ours)
        )
    }
    for table in tables:
        if not all(setting in there[table] for setting in _SETTINGS):
            run(f"ALTER TABLE {database}.{table} MODIFY SETTING {', '.join(_SETTINGS)}")

"""New rows of `requests` as they come, with a filter in CEL over their columns.

ClickHouse has no cursor: what has begun in the last minute is asked for again and again, and what was seen is left
out. Not for: how it looks (`cli/tail.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from mixer_py.errors import ExpressionError
from mixer_py.expressions import BOOL, INT, TIMESTAMP, Expression, Place, compile_expression
from mixer_py.telemetry.row_scope import COLUMN_OF, ROW_SCOPE

LOOK_BACK_SECONDS: Final = 60
"""A request that took longer than this, or whose row came later, is not seen."""
MOST: Final = 1000
"""Rows that one look shows; what more has come is told by its number."""

Row = Mapping[str, Any]
Ask = Callable[[str], Sequence[Row]]
Key = tuple[str, str, str]


class _Columns:
    """A row as an expression reads it."""

    __slots__ = ("_row",)

    def __init__(self, row: Row) -> None:
        self._row = row

    def get(self, name: str, /) -> Any:  # noqa: ANN401 (as `expressions.Attributes`)
        """The value of a column; None where the row has none."""
        value = self._row.get(COLUMN_OF[name])
        kind = ROW_SCOPE.types[name]
        if value is None:
            return None
        if kind == INT:
            return int(value)  # ClickHouse writes large numbers as text
        return nanoseconds(value) if kind == TIMESTAMP else value


def compile_filter(text: str) -> Expression:
    """The filter that a text stands for.

    Raises:
        ConfigurationError: it is none; the message says where and what was meant.
    """
    return compile_expression(text, BOOL, Place("command line", field="--filter"), ROW_SCOPE)


def matches(expression: Expression | None, row: Row) -> bool:
    """Whether a row passes; one over which the filter fails, as for a value that it lacks, does not."""
    if expression is None:
        return True
    try:
        return bool(expression.evaluate(_Columns(row)))
    except ExpressionError:
        return False


class Tail:
    """What has come since the last look."""

    def __init__(self, ask: Ask, lines: int) -> None:
        """Begins before the rows that are there.

        Args:
            ask: answers one SELECT.
            lines: how many of the rows that are there already the first look shows.
        """
        self._ask = ask
        self._lines = lines
        self._seen: dict[Key, None] | None = None

    def look(self) -> tuple[list[Row], int]:
        """The rows that have come since the last look, oldest first, and how many more there were than are shown."""
        if self._seen is None:
            rows = self._rows("", max(self._lines, 0))
            self._seen = dict.fromkeys(map(_key, self._recent(MOST)))
            return rows, 0
        recent = self._recent(MOST + 1)
        fresh = [row for row in recent if _key(row) not in self._seen]
        self._seen = dict.fromkeys(map(_key, recent))
        more = self._count() - MOST if len(recent) > MOST else 0
        return fresh[-MOST:], max(more, 0)

    def _recent(self, most: int) -> list[Row]:
        return self._rows(_RECENT, most)

    def _rows(self, condition: str, most: int) -> list[Row]:
        if not most:
            return []
        newest = self._ask(f"SELECT * FROM requests {condition} ORDER BY timestamp DESC LIMIT {most:d}")  # noqa: S608 (a number)
        return list(reversed(newest))

    def _count(self) -> int:
        (row,) = self._ask(f"SELECT count() AS rows FROM requests {_RECENT}")  # noqa: S608 (a constant)
        return int(row["rows"])


_RECENT: Final = f"WHERE timestamp > now64(9) - INTERVAL {LOOK_BACK_SECONDS} SECOND"


def _key(row: Row) -> Key:
    return str(row["timestamp"]), str(row["request_id"]), str(row["context_reporter_uid"])


def nanoseconds(timestamp: str) -> int:
    """Nanoseconds since the epoch from ClickHouse's text of a DateTime64(9)."""
    seconds, _, fraction = timestamp.partition(".")
    moment = datetime.strptime(seconds, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000_000 + int((fraction or "0").ljust(9, "0")[:9])

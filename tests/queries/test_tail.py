"""What a look shows, over rows of our own making; the whole command: tests/end_to_end/test_tail.py."""

from __future__ import annotations

import re
from typing import Any

import pytest

from mixer_py.queries.tail import MOST, Tail, compile_filter, matches, nanoseconds


class Table:
    """Rows by moment, oldest first."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, moment: int, *paths: str) -> None:
        self.rows += [
            {"timestamp": f"2026-11-28 10:00:{moment:02}.000000000", "request_id": path, "context_reporter_uid": "edge"}
            for path in paths
        ]
        self.rows.sort(key=lambda row: row["timestamp"])

    def ask(self, sql: str) -> list[dict[str, Any]]:
        if "count()" in sql:
            return [{"rows": len(self.rows)}]
        limit = re.search(r"LIMIT (\d+)$", sql)
        assert limit is not None
        return list(reversed(self.rows))[: int(limit[1])]


def shown(tail: Tail) -> list[str]:
    return [row["request_id"] for row in tail.look()[0]]


def test_each_row_is_shown_once_also_one_that_comes_late() -> None:
    table = Table()
    table.add(1, "a", "b", "c")
    tail = Tail(table.ask, lines=2)
    assert shown(tail) == ["b", "c"]
    assert shown(tail) == []
    table.add(9, "f")
    table.add(5, "late")
    assert shown(tail) == ["late", "f"]
    assert shown(tail) == []


def test_more_than_can_be_shown_is_told_by_its_number() -> None:
    table = Table()
    tail = Tail(table.ask, lines=0)
    assert shown(tail) == []
    table.add(1, *map(str, range(MOST + 7)))
    rows, more = tail.look()
    assert (len(rows), more) == (MOST, 7)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('verdict == "deny"', True),
        ("response_code == 403 && response.code == 403", True),
        ("response.duration > 2500", True),
        ('request.url_path.startsWith("/x")', False),
        ("timestamp > timestamp('2026-11-28T09:00:00Z')", True),
        ("limit_remaining == 0", False),
    ],
)
def test_a_filter_reads_columns_as_attributes(text: str, wanted: bool) -> None:
    row = {
        "verdict": "deny", "response_code": 403, "response_duration": "3000", "request_url_path": "/reviews",
        "timestamp": "2026-11-28 10:00:00.5", "limit_remaining": None,
    }  # fmt: skip
    assert matches(compile_filter(text), row) is wanted


def test_moments_are_read_to_the_nanosecond() -> None:
    assert nanoseconds("1970-01-01 00:00:01.000000007") == 1_000_000_007
    assert nanoseconds("2026-11-28 10:00:00") == 1_795_860_000_000_000_000


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('custom_tags["tenant"] == "acme"', True),
        ('custom_tags.tenant == "other" || request.headers["x-tenant"] == "acme"', True),
        ('request.query_params["page"] == "7" && "sort" in request.query_params', False),
        ('custom_tags["colour"] == "blue"', False),  # which the row does not have
    ],
)
def test_a_filter_reads_tags_headers_and_parameters(text: str, wanted: bool) -> None:
    row = {
        "custom_tags": {"tenant": "acme"}, "request_headers": {"x-tenant": "acme"},
        "request_query_params": {"page": "7"},
    }  # fmt: skip
    assert matches(compile_filter(text), row) is wanted

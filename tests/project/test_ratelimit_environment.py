"""The page of envoyproxy/ratelimit's environment names keys that exist, and every variable once."""

from __future__ import annotations

import re
from pathlib import Path

from mixer_py.config.configuration import Configuration
from mixer_py.config.definition import keys

PAGE = Path(__file__).resolve().parents[2] / "docs" / "ratelimit-environment.md"
VARIABLES = 112
"""What src/settings/settings.go of the original reads."""


def rows() -> list[tuple[str, str, str]]:
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("| `") else []
        if cells:
            assert len(cells) in {2, 3}, line
            found.append((cells[0], cells[1], cells[2].rstrip("| ") if len(cells) == 3 else ""))
    return found


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_key_that_it_names_exists() -> None:
    known = {key.path for key in keys(Configuration)}
    named = [name for _, ours, _ in rows() for name in quoted(ours)]
    assert len(named) > 25
    assert set(named) <= known


def test_every_variable_stands_there_once() -> None:
    named = [name for theirs, _, _ in rows() for name in quoted(theirs)]
    assert len(named) == len(set(named)) == VARIABLES
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]+", name) for name in named)


def test_where_there_is_no_key_it_says_why() -> None:
    for theirs, ours, why in rows():
        assert quoted(ours) or ours == "none", theirs
        assert why or ours != "none", theirs

"""The page of bounds says what is: its keys with their defaults, its counters, and tests that there are."""

from __future__ import annotations

import re

import pytest

from tests.parts.presence import ROOT

PAGE = (ROOT / "docs/bounds.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")][
    1:
]
SETTINGS = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")  # generated from the settings themselves
METRICS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")


def test_there_are_rows_of_six_cells() -> None:
    assert len(ROWS) > 20
    assert {len(row) for row in ROWS} == {6}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_says_what_is(row: list[str]) -> None:
    _, key, default, _, counted, test = row
    if key != "fixed":
        (line,) = [line for line in SETTINGS.splitlines() if line.startswith(f"| {key} |")]
        assert line.split("|")[3].strip() == default
    for metric in re.findall(r"`(mixer_\w+)`", counted):
        assert f"`{metric}`" in METRICS
    path, _, name = test.strip("`").partition("::")
    assert f"def {name}" in (ROOT / path).read_text(encoding="utf-8") if name else (ROOT / path).is_file()

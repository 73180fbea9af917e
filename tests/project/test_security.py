"""The threat model names tests that exist: a row without one is a hope."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    line
    for line in (ROOT / "docs" / "security.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| attack |")
]


def test_there_is_a_model() -> None:
    assert len(ROWS) > 30


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_every_row_names_a_test_that_is_collected(row: str) -> None:
    attack, defence, shown = (cell.strip() for cell in row.strip("|").split("|"))
    assert attack
    assert defence
    names = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", shown)
    assert names, "a row names its test as `tests/…/test_….py::test_…`"
    for file, name in names:
        assert Path(file).name.startswith("test_"), "else pytest does not look into it"
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        found = [
            node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
        ]
        assert len(found) == 1, f"{file} has {len(found)} tests {name}"
        marks = [ast.unparse(decorator) for decorator in found[0].decorator_list]
        assert not any(mark.startswith(("pytest.mark.skip", "pytest.mark.xfail")) for mark in marks)

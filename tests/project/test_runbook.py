"""What the person on call reads: every fault in the log says what to do, and pages of the runbook are whole."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.project.test_metric_names import declared

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "runbook").glob("*.md"))
_SEVERE = {"warning", "error", "critical", "exception"}
_SECTIONS = ["## Metric", "## What callers see", "## Find out", "## Remedy"]


def faults() -> list[tuple[str, ast.Call]]:
    """Every call that writes a fault to the log, and where it stands."""
    found = []
    for module in sorted((ROOT / "mixer_py").rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in _SEVERE and ast.unparse(node.func.value).rpartition(".")[2] in {"_log", "log"}:
                found.append((f"{module.relative_to(ROOT)}:{node.lineno}", node))
    return found


def test_every_fault_in_the_log_says_what_to_do():
    assert len(faults()) > 30
    silent = [place for place, call in faults() if "way_out" not in {word.arg for word in call.keywords}]
    assert silent == []


def test_the_log_names_pages_that_exist():
    named = {
        (place, page)
        for place, call in faults()
        for page in re.findall(r"[Rr]unbook (\w+)", ast.unparse(call))
    }  # fmt: skip
    assert named
    assert [(place, page) for place, page in named if page not in {one.stem for one in PAGES}] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_its_sections_and_names_metrics_that_exist(page: Path):
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {page.stem}\n")
    assert [line for line in text.splitlines() if line.startswith("## ")] == _SECTIONS
    known = set(declared()) | {"mixer_snapshot_info"}
    named = {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"`(mixer_[a-z_]+)", text)}
    assert named - known == set()

"""The house's rules that a machine can check: arrows between rooms, sizes, docstrings, names."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "mixer_py").rglob("*.py"))

MODULE_LINES = 400
FUNCTION_LINES = 50

LARGE_MODULES: dict[str, str] = {}
"""Modules that may be longer, each with its reason."""
LARGE_FUNCTIONS: dict[str, str] = {}
"""Functions that may be longer, as `module:function`, each with its reason."""
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "managers", "manager", "common", "misc"}


def name_of(module: Path) -> str:
    return str(module.relative_to(ROOT))


def functions(module: Path) -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    found = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return [(f"{name_of(module)}:{node.name}", node) for node in found]


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its decorators and docstring."""
    assert node.end_lineno is not None
    lines = node.end_lineno - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is not None and first.end_lineno is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def test_arrows_between_rooms_point_one_way() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_module_says_what_it_is_for(module: Path) -> None:
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))
    assert docstring, f"{name_of(module)} has no docstring"


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_module_is_named_for_its_job(module: Path) -> None:
    assert module.stem not in VAGUE_NAMES


def test_modules_are_short() -> None:
    lengths = {name_of(module): len(module.read_text(encoding="utf-8").splitlines()) for module in MODULES}
    long = {name: lines for name, lines in lengths.items() if lines > MODULE_LINES}
    assert long.keys() == LARGE_MODULES.keys(), f"longer than {MODULE_LINES} lines: {long}"


def test_functions_are_short() -> None:
    long = {
        name: length(node) for module in MODULES for name, node in functions(module) if length(node) > FUNCTION_LINES
    }
    assert long.keys() == LARGE_FUNCTIONS.keys(), f"longer than {FUNCTION_LINES} lines: {long}"


def test_tests_mirror_the_rooms() -> None:
    rooms = {path.name for path in (ROOT / "mixer_py").iterdir() if (path / "__init__.py").exists()}
    beside = {
        "bundles",
        "cases",
        "conformance",
        "dashboards",
        "deploy",
        "end_to_end",
        "faults",
        "fuzz",
        "interoperability",
        "parts",
        "project",
        "queries",
        "recording",
        "store",
    }
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= rooms | beside, "a folder of tests is named for a room, or for what spans several"

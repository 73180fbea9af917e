"""What others may rely on: the package's own names, the door of each room, the commands, the console script."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path

import pytest

import mixer_py
from mixer_py.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
ROOMS = sorted(path.parent.name for path in (ROOT / "mixer_py").glob("*/__init__.py"))


def test_the_package_exports_its_version_only() -> None:
    """mixer-py is a program: what runs inside may change without notice."""
    spelt_out = {name for name, value in vars(mixer_py).items() if isinstance(value, str) and not name.startswith("__")}
    assert spelt_out == set()
    assert not hasattr(mixer_py, "__all__")
    assert isinstance(mixer_py.__version__, str)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_what_its_door_promises(room: str) -> None:
    module = importlib.import_module(f"mixer_py.{room}")
    promised = getattr(module, "__all__", [])
    assert len(set(promised)) == len(promised)
    assert [name for name in promised if not hasattr(module, name)] == []
    assert [name for name in promised if name.startswith("_")] == []


def test_the_commands_are_those_of_the_contract() -> None:
    assert list(COMMANDS) == [
        "serve", "demo", "validate", "check", "test", "limits", "why", "tail", "query", "doctor", "version"
    ]  # fmt: skip


def test_one_console_script_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"mixer": "mixer_py.cli.main:main"}

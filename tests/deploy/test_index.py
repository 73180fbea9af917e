"""deploy/README.md: it names every folder, and what is said of all examples holds for each."""

from __future__ import annotations

import pytest

from tests.parts.presence import ROOT

DEPLOY = ROOT / "deploy"
FOLDERS = sorted(path for path in DEPLOY.iterdir() if path.is_dir() and path.name != "__pycache__")
_CHOICES = ("envoy", "systemd", "kubernetes", "istio", "envoy-gateway")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_index_says_what_a_folder_is_for_and_how_it_is_checked(folder):
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if f"({folder.name}/" in line and line.startswith("|")]
    assert all(cell.strip() for cell in row.strip("|").split(" | "))
    assert len(row.strip("|").split(" | ")) == 3


@pytest.mark.parametrize("name", _CHOICES)
def test_what_only_a_reader_can_know_is_marked(name):
    texts = [path.read_text(encoding="utf-8") for path in (DEPLOY / name).rglob("*") if path.is_file()]
    assert any("CHOOSE" in text for text in texts)

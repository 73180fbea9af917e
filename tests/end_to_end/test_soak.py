"""The short form of `make soak`: every request in every book, at a steady rate, for some seconds."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mixer_py.demo.processes import own_environment
from tests.parts.presence import ROOT

pytestmark = [pytest.mark.chdb, pytest.mark.long(1)]


def test_every_request_is_in_every_book_and_memory_stays_flat(tmp_path):
    report = tmp_path / "soak.md"
    command = [sys.executable, str(ROOT / "benchmarks" / "soak.py"), "--seconds", "15", "--rate", "40"]
    done = subprocess.run(
        [*command, "--output", str(report)],
        capture_output=True, text=True, timeout=280, check=False, env=own_environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "600 requests, and everything held\n"
    assert "Everything held." in report.read_text()
    assert report.with_suffix(".svg").read_text().startswith("<svg")

"""`mixer demo` as a person runs it, in an empty folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mixer_py.demo.evidence import KINDS
from tests.parts.mixer_process import MIXER, child_processes, eventually, is_running
from tests.parts.presence import ROOT

pytestmark = [pytest.mark.envoy, pytest.mark.chdb]


def environment(folder: Path) -> dict[str, str]:
    """A person's: temporary files in a folder of the test, a proxy, settings of a mixer of their own."""
    own = {
        "http_proxy": "http://127.0.0.1:9",
        "MIXER_SERVER__ADMIN": "127.0.0.1:9",
        "MIXER_POLICY__ON_ERROR": "nonsense",
    }
    return {**os.environ, **own, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}


def test_once_shows_five_kinds_of_joined_rows_and_leaves_nothing(tmp_path: Path):
    empty, temporary = tmp_path / "empty", tmp_path / "tmp"
    empty.mkdir()
    temporary.mkdir()
    finished = subprocess.run(
        (*MIXER, "demo", "--once"), capture_output=True, text=True, cwd=empty, env=environment(temporary), timeout=120,
        check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished
    for kind in KINDS:
        assert kind.name in finished.stdout
    for piece in ("OVER_LIMIT", "no valid token", "role guest may not DELETE", "UC", "istio_requests_total{"):
        assert piece in finished.stdout, finished.stdout
    assert "\x1b[" not in finished.stdout  # no terminal, no colours
    assert list(empty.iterdir()) == []
    assert list(temporary.glob("mixer-demo-*")) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stays_until_a_signal_prints_what_to_try_and_ends_its_children(programs, tmp_path: Path, number):
    demo = programs.start("demo", (*MIXER, "demo"), environment=environment(tmp_path))
    eventually(lambda: "Try it" in demo.tail(200) and "policy.rego" in demo.tail(200), "the invitation", seconds=120)
    family = child_processes(demo.pid)
    assert len(family) >= 2
    curl = next(line for line in demo.tail(200).splitlines() if "curl -i" in line and "bob" in line)
    assert "http://127.0.0.1:" in curl
    demo.signal(number)
    assert demo.wait(60) == 0
    assert not any(is_running(pid) for pid in family)
    assert list(tmp_path.glob("mixer-demo-*")) == []


def test_its_children_end_when_it_is_killed(programs, tmp_path: Path):
    demo = programs.start("demo", (*MIXER, "demo"), environment=environment(tmp_path))
    eventually(lambda: "Three callers" in demo.tail(200), "both children", seconds=120)
    family = child_processes(demo.pid)
    family += [grandchild for child in family for grandchild in child_processes(child)]
    assert len(family) >= 3
    os.kill(demo.pid, signal.SIGKILL)
    eventually(lambda: not any(is_running(pid) for pid in family), "the end of its children")


def test_a_part_that_does_not_start_is_named_with_its_last_words(tmp_path: Path):
    broken = "import sys; from mixer_py.demo import envoy, show; envoy.command = lambda *_: ['/bin/false']; "
    finished = subprocess.run(
        (sys.executable, "-c", broken + "sys.exit(show.run(once=True))"),
        capture_output=True, text=True, cwd=tmp_path, env=environment(tmp_path), timeout=120, check=False,
    )  # fmt: skip
    assert finished.returncode == 1
    assert "Envoy ended with status 1 while it started" in finished.stdout
    assert list(tmp_path.glob("mixer-demo-*")) == []

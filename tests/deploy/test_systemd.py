"""The systemd unit: systemd takes it, and finds little exposed; mixer runs where memory cannot become code."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from mixer_py.demo.parts import is_ready
from mixer_py.demo.processes import Ports
from tests.parts.mixer_process import Mixer
from tests.parts.presence import ROOT, find_server
from tests.parts.programs import Programs

UNIT = ROOT / "deploy" / "systemd" / "mixer.service"
PROGRAM = "/opt/mixer/bin/mixer"
EXPOSURE = 15
"""Of 100, as `systemd-analyze security` counts; a unit without hardening has 96."""

# prctl(2): PR_SET_MDWE with PR_MDWE_REFUSE_EXEC_GAIN is what MemoryDenyWriteExecute= asks for since systemd 253.
_PR_SET_MDWE, _PR_GET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN = 65, 66, 1


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that this machine has: systemd-analyze looks for it."""
    text = UNIT.read_text(encoding="utf-8")
    assert f"ExecStart={PROGRAM} serve -c /etc/mixer/mixer.yaml" in text
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace(PROGRAM, str(Path(sys.executable).with_name("mixer"))), encoding="utf-8")
    return copy


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = find_server("systemd")
    assert program is not None
    return subprocess.run((program, *arguments), capture_output=True, text=True, check=False)


@pytest.mark.systemd
def test_systemd_takes_the_unit(unit: Path):
    finished = analyze("verify", "--man=no", unit)
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.mark.systemd
def test_systemd_would_name_a_slip_of_the_pen(unit: Path):
    """Else the test above could not fail: an unknown key is a warning to systemd."""
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "ProtectSystem=strikt\nNoNewPriviliges=yes"))
    finished = analyze("verify", "--man=no", unit)
    assert "strikt" in finished.stderr
    assert "NoNewPriviliges" in finished.stderr


@pytest.mark.systemd
def test_little_is_exposed(unit: Path):
    finished = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", unit)
    assert finished.returncode == 0, finished.stdout


def test_the_units_time_to_stop_is_longer_than_mixers_own():
    """server.drain_timeout and server.flush_timeout, 15 s and 10 s at their defaults."""
    (line,) = [line for line in UNIT.read_text().splitlines() if line.startswith("TimeoutStopSec=")]
    assert int(line.partition("=")[2].removesuffix("s")) > 15 + 10


@pytest.mark.skipif(ctypes.CDLL(None).prctl(_PR_GET_MDWE, 0, 0, 0, 0) < 0, reason="Linux has PR_SET_MDWE since 6.3")
def test_mixer_decides_where_memory_cannot_become_code(programs: Programs, ports: Ports, tmp_path: Path):
    """MemoryDenyWriteExecute=yes, asked of the kernel by hand."""
    mixer = Mixer(programs, ports, tmp_path)
    mixer.write("policy.rego", 'package envoy.authz\n\ndefault allow := regex.match("^a+$", "aaa")\n')
    mixer.write("limits.yaml", "domain: mesh\ndescriptors: [{key: a, rate_limit: {unit: day, requests_per_unit: 1}}]\n")
    mixer.configure(
        {
            "policy": {"bundles": ["policy.rego"]},
            "rate_limit": {"config": ["limits.yaml"]},
            "server": {"workers": 2},
        }
    )
    wrapper = tmp_path / "denied.py"
    wrapper.write_text(
        "import ctypes, os, sys\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        f"done = libc.prctl({_PR_SET_MDWE}, {_PR_MDWE_REFUSE_EXEC_GAIN}, 0, 0, 0)\n"
        "assert done == 0, os.strerror(ctypes.get_errno())\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
    )
    command = (sys.executable, str(wrapper), "-m", "mixer_py.cli.main", "serve", "-c", str(mixer.file))
    mixer.program = programs.start("denied", command)
    mixer.program.wait_until(lambda: is_ready(mixer.admin))
    assert mixer.valkey()

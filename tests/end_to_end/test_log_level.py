"""The level of the log: by setting, by a reload, and by a signal, in every process."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from mixer_py.demo.processes import Ports
from tests.parts.mixer_process import Mixer, eventually
from tests.parts.programs import Programs

POLICY = "package envoy.authz\nimport rego.v1\ndefault allow := true\nallow := false if print(input.attributes)\n"


def events(mixer: Mixer) -> list[dict[str, Any]]:
    lines = mixer.running.log.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.fixture
def mixer(programs: Programs, ports: Ports, tmp_path: Path) -> Mixer:
    one = Mixer(programs, ports, tmp_path)
    one.write("policies/authz.rego", POLICY)
    return one


def level_in(mixer: Mixer, process: str, sequence: int) -> str:
    """What a process says once it has been told how to log; nothing when it writes no debug events."""
    found = [one for one in events(mixer) if one["event"] == "told how to log" and one["process"] == process]
    return str(found[sequence]["level_now"]) if len(found) > sequence else ""


@pytest.mark.chdb
def test_a_signal_changes_the_level_in_every_process(mixer: Mixer):
    mixer.configure(
        {
            "policy": {"bundles": ["policies"], "shadow": {"bundles": ["policies"], "share": 1.0}},
            "telemetry": {"clickhouse": {"url": "chdb://rows"}},
            "log": {"level": "warning"},
        }
    )
    mixer.start()
    eventually(lambda: mixer.children("mixer_py.runtime.shadow"), "a candidate's process")
    assert [one for one in events(mixer) if one["level"] in {"debug", "info"}] == []

    mixer.running.signal(signal.SIGUSR1)
    for process in ("worker", "store", "shadow"):
        eventually(lambda process=process: level_in(mixer, process, 0) == "debug", f"debug events of {process}")

    before = mixer.worker()
    os.kill(before, signal.SIGKILL)
    eventually(lambda: [one for one in mixer.children("mixer_py.runtime.worker") if one != before], "another worker")
    eventually(
        lambda: [one for one in events(mixer) if one["event"] == "listening" and one["process"] == "worker"],
        "events of a worker that came later",
    )

    mixer.running.signal(signal.SIGUSR2)
    eventually(
        lambda: [
            one["level_now"]
            for one in events(mixer)
            if one["event"] == "the level of the log was changed by a signal"
        ] == ["debug", "warning"],
        "both changes",
    )  # fmt: skip
    mixer.reload(lambda: mixer.write("policies/authz.rego", POLICY + "# changed\n"))
    quiet = len(events(mixer))
    mixer.reload(lambda: mixer.write("policies/authz.rego", POLICY + "# changed again\n"))
    assert [one for one in events(mixer)[quiet:] if one["level"] in {"debug", "info"}] == []


def test_a_reload_changes_the_level_of_workers_too(mixer: Mixer):
    mixer.configure({"policy": {"bundles": ["policies"]}, "log": {"level": "error"}})
    mixer.start()
    mixer.configure({"policy": {"bundles": ["policies"]}, "log": {"level": "debug"}})
    mixer.running.signal(signal.SIGHUP)
    eventually(lambda: level_in(mixer, "worker", 0) == "debug", "debug events of the worker")

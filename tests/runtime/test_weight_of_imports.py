"""The supervisor and quick commands load neither Arrow nor an engine: memory and time that they do not need."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("pyarrow", "numpy", "regorus", "ptars", "clickhouse_driver", "chdb")

SCRIPT = """
import importlib, sys
importlib.import_module(sys.argv[1])
from mixer_py.config.configuration import Configuration
loaded = Configuration.model_validate({"telemetry": {
    "clickhouse": {"url": "chdb:///tmp/nowhere"}, "retention": {"requests": "30d", "rollups": "400d"}}})
loaded.telemetry.layout
print(*(name for name in sys.argv[2:] if name in sys.modules))
"""


@pytest.mark.parametrize("module", ["mixer_py.runtime.supervisor", "mixer_py.cli.query", "mixer_py.cli.why"])
def test_what_is_heavy_is_left_to_those_who_use_it(module: str) -> None:
    command = [sys.executable, "-c", SCRIPT, module, *HEAVY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []

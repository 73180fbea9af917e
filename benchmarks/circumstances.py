"""What every report says of the run that made it: when, where, and with which versions."""

from __future__ import annotations

import datetime as dt
import os
import platform
from importlib.metadata import version
from pathlib import Path

_PARTS = ("grpcio", "uvloop", "protobuf", "gordon-to-regorus", "ptars", "pyarrow", "chdb-core", "orjson")


def circumstances(*further_parts: str) -> dict[str, str]:
    """The values of `date`, `version`, `machine`, `python` and `parts` in a template.

    Args:
        further_parts: distributions that were measured besides the usual ones.
    """
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "version": version("mixer-py"),
        "machine": f"{len(os.sched_getaffinity(0))} processors ({_processor()}), Linux {platform.release()}",
        "python": platform.python_version(),
        "parts": ", ".join(f"{part} {version(part)}" for part in (*_PARTS, *further_parts)),
    }


def _processor() -> str:
    """The processor's name as Linux knows it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()

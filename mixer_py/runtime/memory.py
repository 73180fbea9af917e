"""How much memory is left, and how much a process has: what the kernel says, of this machine and of this container."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_MACHINE: Final = Path("/proc/meminfo")
_CONTAINER: Final = Path("/sys/fs/cgroup")
"""Of cgroup v2, as a container sees its own."""


def free_bytes() -> int:
    """What can still be taken before the machine, or this container, has none left."""
    machine = _fields(_MACHINE).get("MemAvailable:", 0) * 1024
    try:
        most = int((_CONTAINER / "memory.max").read_text(encoding="ascii"))
        taken = int((_CONTAINER / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such limit: "max"
        return machine
    # Pages of files that nobody has asked for lately are given back when memory is needed.
    return min(machine, most - taken + _fields(_CONTAINER / "memory.stat").get("inactive_file", 0))


def resident_bytes(pid: int) -> int:
    """What a process has in memory; 0 when it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _fields(file: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in map(str.split, lines) if len(words) > 1 and words[1].isdigit()}

"""Which processes go first where there are fewer processors than work: those that answer calls."""

from __future__ import annotations

import contextlib
import os


def stand_back(niceness: int) -> None:
    """Lets processes of less niceness go first (nice(2)); does nothing where a sandbox forbids it."""
    with contextlib.suppress(OSError):
        os.nice(niceness)

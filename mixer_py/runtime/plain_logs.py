"""structlog without rich: imported before anything of runtime, because structlog decides while it is imported.

rich is there for commands that people read. structlog takes it, with pygments, where it finds it, to draw tracebacks
that mixer's processes write as text: 3 MiB in each of them for nothing. A process that has loaded either is left alone.
Not for: how events are written (`logs.py`).
"""

from __future__ import annotations

import sys
from typing import Any

_RICH = "rich"


def _settle_structlog_without_rich() -> None:
    if _RICH in sys.modules or "structlog" in sys.modules:
        return
    modules: dict[str, Any] = sys.modules
    modules[_RICH] = None  # which Python's import takes to mean that there is none
    try:
        import structlog  # noqa: F401, PLC0415 (only now, with rich hidden)
    finally:
        del modules[_RICH]


_settle_structlog_without_rich()

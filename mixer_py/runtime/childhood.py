"""What a process that the supervisor starts does first, and the loop that it runs.

Not for: what the supervisor knows of its children (`child.py`), or what they say to each other (`control.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path

import uvloop


def command_line(module: str) -> argparse.ArgumentParser:
    """What `Child.start` puts on every command line; a module adds what is its own."""
    parser = argparse.ArgumentParser(prog=module)
    parser.add_argument("--control-fd", type=int, required=True, help="descriptor of its end of the control channel")
    parser.add_argument("--table", type=Path, required=True, help="prefix of the files that it counts in")
    return parser


def run(work: Coroutine[None, None, int]) -> int:
    """Runs a child's whole work in an event loop; its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)

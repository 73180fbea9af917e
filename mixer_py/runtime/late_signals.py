"""Signals that come when there is nothing left to be told: an end that went well stays one."""

from __future__ import annotations

import asyncio
import signal
from typing import Final

_TOLD_BY: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def ignore_late_signals(loop: asyncio.AbstractEventLoop) -> None:
    """From now on no signal ends this process but SIGKILL.

    A loop that closes gives its signals back to the kernel, and a SIGHUP between then and the end of the process
    would be what it ended by.
    """
    for number in _TOLD_BY:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)

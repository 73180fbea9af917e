"""SIGTERM and SIGINT inside an Envoy, which would end at once and cut what is in flight.

Python's own handler can be installed in the main thread only, while Envoy still loads, and Envoy then installs its own.
So Python's is remembered, and put back when Envoy's is there. It runs no Python, for the main thread is Envoy's; it
writes the signal's number to a pipe that the worker's loop reads.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from typing import Final

_LOOK_SECONDS: Final = 0.02
_IGNORE: Final = 1
"""SIG_IGN as a handler's address."""


class EnvoySignals:
    """Takes them over from Envoy. Made in the main thread, while Envoy loads its configuration."""

    def __init__(self) -> None:
        self._read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda _number, _frame: None)
        self._get = ctypes.pythonapi.PyOS_getsig
        self._set = ctypes.pythonapi.PyOS_setsig
        self._get.restype = self._set.restype = ctypes.c_void_p
        self._set.argtypes = (ctypes.c_int, ctypes.c_void_p)
        self._ours = self._get(signal.SIGTERM)

    async def take(self, stop: asyncio.Event) -> None:
        """Waits until Envoy has installed its handlers, and takes their place: SIGTERM sets `stop`.

        SIGINT is ignored: Ctrl-C reaches the whole group, and the supervisor decides.
        """
        asyncio.get_running_loop().add_reader(self._read, self._told, stop)
        while self._get(signal.SIGTERM) == self._ours:  # noqa: ASYNC110 (nothing tells of a handler that is installed)
            await asyncio.sleep(_LOOK_SECONDS)
        self._set(signal.SIGTERM, self._ours)
        self._set(signal.SIGINT, _IGNORE)

    def _told(self, stop: asyncio.Event) -> None:
        if signal.SIGTERM in os.read(self._read, 512):
            stop.set()

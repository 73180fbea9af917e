"""A worker inside an Envoy: what pyvoy imports there. Its event loop runs in a thread of its own.

Envoy imports this module once, in its main thread, and then asks it for an attribute for each listener. The worker is
the same as anywhere: it obeys the supervisor, and SIGTERM drains it. When it ends, however it ends, the process ends.

Not for: being imported elsewhere; to import it is to start a worker.
"""

from __future__ import annotations

import asyncio
import os
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

from mixer_py.envoy_parts import find_pyvoy
from mixer_py.runtime.envoy_signals import EnvoySignals
from mixer_py.runtime.envoy_worker import CONTROL, INSIDE, TABLE
from mixer_py.transports.envoy.files import HostFiles
from mixer_py.transports.envoy.host import EnvoyHost
from mixer_py.transports.envoy.loop import share
from mixer_py.transports.envoy.process import restore_environment

_FAILED = 1


class _Inside:
    """The worker's thread, and the host that it talks to."""

    def __init__(self, environment: os._Environ[str]) -> None:
        self._control = int(environment.pop(CONTROL))
        self._table = Path(environment.pop(TABLE))
        self.host = EnvoyHost(HostFiles(self._table.with_suffix(".files")), find_pyvoy(), INSIDE)
        self._signals = EnvoySignals()
        self._loop_is_there = threading.Event()

    def start(self) -> None:
        """Starts the thread; returns when its loop can be shared."""
        threading.Thread(target=self._live, name="worker", daemon=True).start()
        self._loop_is_there.wait()

    def _live(self) -> None:
        """Never returns: the process ends with the worker. Envoy would go on to listen, and every call would hang."""
        code = _FAILED
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                share(runner.get_loop())
                self._loop_is_there.set()
                code = runner.run(self._run())
        except BaseException:  # noqa: BLE001 (whatever it was, it ends this process, and is told)
            traceback.print_exc()
        finally:
            os._exit(code)

    async def _run(self) -> int:
        # Here, because it takes most of the start, and Envoy goes on meanwhile.
        from mixer_py.runtime.worker import run_worker  # noqa: PLC0415

        stop = asyncio.Event()
        taking = asyncio.create_task(self._signals.take(stop))
        try:
            return await run_worker(self._control, self._table, stop, self.host)
        finally:
            taking.cancel()


def _start() -> _Inside:
    inside = _Inside(os.environ)
    restore_environment()
    inside.start()
    return inside


_INSIDE = _start()


def __getattr__(name: str) -> Callable[..., Any]:
    """What answers at a listener: pyvoy asks for an attribute of this module."""
    try:
        return _INSIDE.host.find(name)
    except KeyError:
        raise AttributeError(name) from None

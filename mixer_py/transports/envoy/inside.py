"""Python inside an Envoy: an event loop in a thread of its own, and what pyvoy asks for when Envoy gets a listener.

Made while Envoy loads the module that pyvoy was told of, in Envoy's main thread; that module answers pyvoy with `find`.
Not for: what runs in the loop.
"""

from __future__ import annotations

import asyncio
import os
import threading
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final

import uvloop

from mixer_py.envoy_parts import find_pyvoy
from mixer_py.transports.envoy.files import HostFiles
from mixer_py.transports.envoy.host import Asgi, EnvoyHost
from mixer_py.transports.envoy.loop import share
from mixer_py.transports.envoy.process import restore_environment
from mixer_py.transports.envoy.signals import EnvoySignals

Main = Callable[[EnvoyHost, asyncio.Event], Awaitable[int]]
"""What runs in the loop: it is given the Envoy around it and an event that SIGTERM sets, and returns the exit code."""

_FAILED: Final = 1


class Inside:
    """The thread, and the Envoy around it."""

    def __init__(self, files: HostFiles, module: str, main: Main) -> None:
        """Starts; returns when pyvoy may ask for a loop.

        Args:
            files: between Envoy and us.
            module: name of the module that pyvoy was told of.
            main: what runs. The process ends with it: Envoy would go on to listen, and every call would hang.
        """
        self._main = main
        self._host = EnvoyHost(files, find_pyvoy(), module)
        self._signals = EnvoySignals()
        self._loop_is_there = threading.Event()
        restore_environment()
        threading.Thread(target=self._live, name="loop", daemon=True).start()
        self._loop_is_there.wait()

    def find(self, name: str) -> Asgi:
        """What answers at a listener.

        Raises:
            AttributeError: there is no such listener; pyvoy looks for an attribute.
        """
        try:
            return self._host.find(name)
        except KeyError:
            raise AttributeError(name) from None

    def _live(self) -> None:
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
        asyncio.get_running_loop().set_exception_handler(_tell)
        stop = asyncio.Event()
        taking = asyncio.create_task(self._signals.take(stop))
        try:
            return await self._main(self._host, stop)
        finally:
            taking.cancel()


def _tell(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What went wrong in a callback, but for pyvoy's when it answers a `receive` whose call has ended meanwhile."""
    if not isinstance(context.get("exception"), asyncio.InvalidStateError):
        loop.default_exception_handler(context)

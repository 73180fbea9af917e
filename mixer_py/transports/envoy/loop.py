"""One event loop for a process in which pyvoy wants one for each listener.

pyvoy asks asyncio's policy for a loop, in a thread of its own, and from then on uses four of the loop's methods. What
it gets is a view of the loop on which the worker already runs, in its own thread: so all listeners answer from one
snapshot, in one thread, as the policy engine's objects demand.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any


class SharedLoop:
    """A loop as pyvoy uses it. It runs elsewhere; to run it here is to wait for its end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._over = threading.Event()
        # The loop's own methods, because they are called several times a request.
        self.call_soon_threadsafe = loop.call_soon_threadsafe
        self.create_task = loop.create_task
        self.create_future = loop.create_future

    def run_forever(self) -> None:
        """Waits until `stop`."""
        self._over.wait()

    def stop(self) -> None:
        """Lets `run_forever` return; the loop itself goes on."""
        self._over.set()

    def run_until_complete(self, work: Coroutine[Any, Any, Any]) -> None:
        """Does nothing: what pyvoy would end here belongs to the worker."""
        work.close()

    async def shutdown_asyncgens(self) -> None:
        """Nothing, see `run_until_complete`."""

    async def shutdown_default_executor(self, _timeout: float | None = None) -> None:
        """Nothing, see `run_until_complete`."""

    def close(self) -> None:
        """Nothing, see `run_until_complete`."""


def share(loop: asyncio.AbstractEventLoop) -> None:
    """From now on every thread of this process that asks asyncio for a new loop gets a view of this one."""

    class _Policy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self) -> asyncio.AbstractEventLoop:
            return SharedLoop(loop)  # type: ignore[return-value]  # as much of a loop as pyvoy uses

        def set_event_loop(self, loop: asyncio.AbstractEventLoop | None) -> None:
            if not isinstance(loop, SharedLoop):  # which is nobody's current loop
                super().set_event_loop(loop)

    asyncio.set_event_loop_policy(_Policy())

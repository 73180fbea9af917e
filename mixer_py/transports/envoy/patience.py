"""How long a caller waits: its deadline passes, or it goes away; then its call is cancelled.

Envoy and pyvoy hand `grpc-timeout` over as any other header, and let a call whose caller has gone run to its end. pyvoy
tells of a caller that has gone only when it is asked for more of the body, so it is asked now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from mixer_py.errors import CallerGoneError, DeadlinePassedError, MixerError
from mixer_py.instruments import Clock

_LOOK_SECONDS: Final = 0.05
"""How often a caller is looked after: most calls are over by then."""


class Patience:
    """That of one call's caller.

    Attributes:
        deadline: `Clock.monotonic` seconds after which the caller no longer waits; None when it waits for ever.
    """

    __slots__ = ("_body_is_read", "_clock", "_gone", "_handle", "_late", "_loop", "_receive", "_task", "deadline")

    def __init__(
        self, clock: Clock, timeout: float | None, receive: Callable[[], Awaitable[Mapping[str, Any]]]
    ) -> None:
        """Begins to watch, for the task that this is called in.

        Args:
            clock: that of the deadline.
            timeout: seconds that the caller gives.
            receive: tells, once the body is read, whether the caller is there.
        """
        self._clock = clock
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._body_is_read = self._late = self._gone = False
        self.deadline = None if timeout is None else clock.monotonic() + timeout
        self._handle = self._loop.call_later(self._pause(), self._look)

    def body_is_read(self) -> None:
        """From now on it can be asked whether the caller is there."""
        self._body_is_read = True

    def over(self) -> None:
        """The call has ended."""
        self._handle.cancel()
        self._task = None

    def verdict(self) -> MixerError | asyncio.CancelledError:
        """Why the call was cancelled, as what it ends with."""
        if self._late:
            return DeadlinePassedError("the deadline passed before there was an answer")
        if self._gone:
            return CallerGoneError("the caller went away")
        return asyncio.CancelledError()

    def _pause(self) -> float:
        if self.deadline is None:
            return _LOOK_SECONDS
        return min(_LOOK_SECONDS, max(self.deadline - self._clock.monotonic(), 0.0))

    def _look(self) -> None:
        if self._task is None:
            return
        if self.deadline is not None and self.deadline <= self._clock.monotonic():
            self._late = True
            self._task.cancel()
            return
        if self._body_is_read:
            asyncio.ensure_future(self._receive()).add_done_callback(self._heard)
        self._handle = self._loop.call_later(self._pause(), self._look)

    def _heard(self, told: asyncio.Future[Mapping[str, Any]]) -> None:
        if self._task is None or told.cancelled() or told.exception() is not None:
            return
        if told.result()["type"] == "http.disconnect":
            self._gone = True
            self._task.cancel()

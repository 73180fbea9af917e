"""How long callers wait: a deadline passes, or a caller goes away; then its call is cancelled.

Envoy and pyvoy hand `grpc-timeout` over as any other header, and let a call whose caller has gone run to its end. pyvoy
tells of a caller that has gone only when it is asked for more of the body, so it is asked now and then. All calls are
looked after by one timer, because one for each would cost a tenth of a call; most are over before it comes round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from mixer_py.errors import CallerGoneError, DeadlinePassedError, MixerError
from mixer_py.instruments import Clock

_LOOK_SECONDS: Final = 0.02
"""How late a deadline may be kept."""
_LOOKS_TO_ASK: Final = 10
"""Callers are asked in every tenth look, because to ask costs as much as a part of a call."""

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class Patience:
    """That of one call's caller.

    Attributes:
        deadline: `Clock.monotonic` seconds after which the caller no longer waits; None when it waits for ever.
        body_is_read: it can be asked whether the caller is there.
    """

    __slots__ = ("_gone", "_late", "_receive", "_task", "body_is_read", "deadline")

    def __init__(self, deadline: float | None, receive: Receive) -> None:
        self._receive = receive
        self._task = asyncio.current_task()
        self._late = self._gone = False
        self.body_is_read = False
        self.deadline = deadline

    def verdict(self) -> MixerError | asyncio.CancelledError:
        """Why the call was cancelled, as what it ends with."""
        if self._late:
            return DeadlinePassedError("the deadline passed before there was an answer")
        if self._gone:
            return CallerGoneError("the caller went away")
        return asyncio.CancelledError()

    def look(self, now: float) -> None:
        """Cancels the call when its deadline has passed."""
        if self.deadline is not None and self.deadline <= now:
            self._late = True
            self._cancel()

    def ask(self) -> None:
        """Asks whether the caller is there; when it is not, its call is cancelled a moment later."""
        if self.body_is_read and self._task is not None:
            asyncio.ensure_future(self._receive()).add_done_callback(self._heard)

    def over(self) -> None:
        """The call has ended; nothing cancels it any more."""
        self._task = None

    def _heard(self, told: asyncio.Future[Mapping[str, Any]]) -> None:
        if not told.cancelled() and told.exception() is None and told.result()["type"] == "http.disconnect":
            self._gone = True
            self._cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None


class Watch:
    """Looks after the callers of all calls in hand."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: set[Patience] = set()
        self._looking: asyncio.TimerHandle | None = None
        self._looks = 0

    def begin(self, timeout: float | None, receive: Receive) -> Patience:
        """Begins to look after the caller of the call whose task this is called in.

        Args:
            timeout: seconds that it gives.
            receive: tells, once the body is read, whether the caller is there.
        """
        patience = Patience(None if timeout is None else self._clock.monotonic() + timeout, receive)
        self._waiting.add(patience)
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)
        return patience

    def end(self, patience: Patience) -> None:
        """The call has ended."""
        patience.over()
        self._waiting.discard(patience)

    def _look(self) -> None:
        now = self._clock.monotonic()
        for patience in self._waiting:
            patience.look(now)
        self._looks += 1
        if self._looks % _LOOKS_TO_ASK == 0:
            for patience in self._waiting:
                patience.ask()
        again = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look) if self._waiting else None
        self._looking = again

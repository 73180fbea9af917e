"""Ask a candidate policy about a share of the checks, and keep each record until it has answered or its time is up.

The candidate runs in another process behind a unix socket. Asking never waits and never raises: what does not fit into
the bounds is not asked, and counted. Not for: evaluating (`candidate.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol, cast

import structlog

from mixer_py.errors import InvalidRequestError
from mixer_py.instruments import Clock, Registry
from mixer_py.policy.shadow_settings import ShadowSettings
from mixer_py.services.shadow_frames import MOST_VERDICT_BYTES, VERDICT, decode_verdict, encode_check
from mixer_py.telemetry.decision_record import DecisionRecord, ShadowOutcome

AWAY: Final = "away"
"""Reason of checks that were not handed over because no candidate listens."""
FULL: Final = "full"
"""Reason of checks that were not handed over because too many wait."""
REMOVED: Final = "removed"
"""Reason of checks whose candidate was taken out of the configuration."""

_MOST_BYTES: Final = 16 << 20
"""Bytes of requests that may wait for a verdict."""
_MOST_UNSENT: Final = 1 << 20
"""Bytes that may wait to be read by the candidate."""
_FIRST_RETRY: Final = 0.05
_LONGEST_RETRY: Final = 0.5
_TIMEOUT: Final = ShadowOutcome("timeout", reasons="the candidate gave no verdict in time")
_ENDED: Final = ShadowOutcome("error", reasons="the candidate's process ended before it gave a verdict")


class HoldingLog(Protocol):
    """A decision log that keeps room for records that come later."""

    def hold(self, size: int) -> bool:
        """Keeps room for one record, of a request of so many bytes; False where the record is not wanted."""

    def record_held(self, record: DecisionRecord, size: int) -> None:
        """Keeps that record."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A check without a verdict yet."""

    decision: str
    verdict: str
    record: DecisionRecord | None
    size: int
    due: float


class ShadowFeed:
    """The candidate as one worker sees it."""

    def __init__(
        self,
        socket: Path,
        log: HoldingLog | None,
        registry: Registry,
        clock: Clock,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Prepares; nothing is asked before `activate` gives it a candidate and `start` begins to look for it.

        Args:
            socket: where the candidate's process listens.
            log: takes the records; None when none are kept.
            registry: gets `mixer_shadow_checks_total` and `mixer_shadow_dropped_total`.
            clock: for how long a record waits.
            draw: a number from 0 up to 1, for each check.
        """
        self._socket = socket
        self._decisions = log
        self._clock = clock
        self._draw = draw
        self._checks = registry.counter(
            "mixer_shadow_checks_total", "Checks that a candidate was asked about, by both verdicts.",
            ("decision", "live", "shadow"),
        )  # fmt: skip
        self._dropped = registry.counter(
            "mixer_shadow_dropped_total", "Checks that were not handed to a candidate.", ("reason",)
        )
        self._settings: ShadowSettings | None = None
        self._share = 0.0
        self._waiting: dict[int, _Waiting] = {}
        self._bytes = 0
        self._number = 0
        self._line: _Line | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._started = False
        self._emptied = asyncio.Event()
        self._log = structlog.get_logger("services")

    def activate(self, settings: ShadowSettings | None) -> None:
        """Asks by other settings from now on; None asks nobody."""
        self._settings = settings
        self._share = 0.0 if settings is None else settings.share
        if settings is None:
            self._hang_up()
            self._finish_all(ShadowOutcome("dropped", reasons="the candidate was removed"), REMOVED)
        self._connect()

    def start(self) -> None:
        """Begins to look for the candidate, if there is one."""
        self._started = True
        self._connect()

    def take(self, message: bytes, decision: str, verdict: str, record: DecisionRecord | None) -> bool:
        """See `ext_authz.Shadow.take`."""
        settings = self._settings
        if settings is None or self._draw() >= self._share:
            return False
        size = len(message)
        reason = ""
        if self._line is None:
            reason = AWAY
        elif len(self._waiting) >= settings.queue or self._bytes + size > _MOST_BYTES or self._line.is_full:
            reason = FULL
        due = self._clock.monotonic() + settings.timeout
        if record is not None and self._decisions is not None and not self._decisions.hold(size):
            record = None
        entry = _Waiting(decision, verdict, record, size, due)
        if self._line is None or reason:
            self._dropped.labels(reason).add()
            self._finish(entry, ShadowOutcome("dropped", reasons=f"not asked: {reason}"))
            return True
        self._number += 1
        self._waiting[self._number] = entry
        self._bytes += size
        self._line.send(encode_check(self._number, due, message))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(settings.timeout, self.expire)
        return True

    def answered(self, number: int, outcome: ShadowOutcome) -> None:
        """The candidate's verdict on one check; one that comes too late counts for nothing."""
        entry = self._waiting.pop(number, None)
        if entry is not None:
            self._bytes -= entry.size
            self._finish(entry, outcome)

    def expire(self) -> None:
        """Lets go of what has waited long enough; the rest is looked at when it is due."""
        now = self._clock.monotonic()
        self._timer = None
        while self._waiting:
            number, entry = next(iter(self._waiting.items()))  # in the order in which they came
            if entry.due > now:
                self._timer = asyncio.get_running_loop().call_later(entry.due - now, self.expire)
                return
            self.answered(number, _TIMEOUT)

    def lost(self, line: _Line) -> None:
        """A connection has ended; what it was to answer has no verdict."""
        if line is self._line:
            self._line = None
            self._finish_all(_ENDED)

    def left(self, line: _Line) -> None:
        """The process behind a connection ends, after it has answered what it has."""
        if line is self._line:
            self._line = None

    async def drain(self, grace: float) -> None:
        """Waits for verdicts that are on their way, then hands every record on.

        Args:
            grace: seconds to wait at most.
        """
        self._share = 0.0
        if self._waiting:
            self._emptied.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._emptied.wait()
        self._settings = None
        self._hang_up()
        self._finish_all(_TIMEOUT)

    def _finish(self, entry: _Waiting, outcome: ShadowOutcome) -> None:
        self._checks.labels(entry.decision, entry.verdict, outcome.verdict).add()
        if entry.record is not None and self._decisions is not None:
            self._decisions.record_held(replace(entry.record, shadow=outcome), entry.size)
        if not self._waiting:
            self._emptied.set()

    def _finish_all(self, outcome: ShadowOutcome, reason: str = "") -> None:
        for number in tuple(self._waiting):
            if reason:
                self._dropped.labels(reason).add()
            self.answered(number, outcome)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _connect(self) -> None:
        if self._started and self._settings is not None and self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._stay_connected())

    async def _stay_connected(self) -> None:
        delay = _FIRST_RETRY
        while True:
            try:
                _, line = await asyncio.get_running_loop().create_unix_connection(
                    lambda: _Line(self), str(self._socket)
                )
            except OSError:  # it is not there yet, or not any more
                await asyncio.sleep(delay)
                delay = min(delay * 2, _LONGEST_RETRY)
            else:
                delay = _FIRST_RETRY
                self._line = line
                await line.ended.wait()

    def _hang_up(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        line, self._line = self._line, None
        if line is not None:
            line.close()


class _Line(asyncio.Protocol):
    """One connection to the candidate's process."""

    def __init__(self, feed: ShadowFeed) -> None:
        self._feed = feed
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self.is_full = False
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport, and bounds what it keeps."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(_MOST_UNSENT)

    def pause_writing(self) -> None:
        """The candidate does not read as fast as it is written to."""
        self.is_full = True

    def resume_writing(self) -> None:
        """It reads again."""
        self.is_full = False

    def data_received(self, data: bytes) -> None:
        """Takes verdicts, or parts of one."""
        self._received += data
        try:
            self._read()
        except InvalidRequestError:
            structlog.get_logger("services").exception("the candidate's process does not speak the protocol")
            self.close()

    def _read(self) -> None:
        received, start = self._received, 0
        while len(received) - start >= VERDICT.size:
            number, length = VERDICT.unpack_from(received, start)
            if length > MOST_VERDICT_BYTES:
                raise InvalidRequestError(f"a candidate's verdict of {length} bytes")
            end = start + VERDICT.size + length
            if len(received) < end:
                break
            if number:
                self._feed.answered(number, decode_verdict(bytes(received[start + VERDICT.size : end])))
            else:
                self._leave()
            start = end
        del received[:start]

    def _leave(self) -> None:
        """Sends no more, and waits for the verdicts that are still to come."""
        self._feed.left(self)
        self.ended.set()
        if self._transport is not None:
            self._transport.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (it is gone in any case)
        """Lets another connection be made."""
        self.ended.set()
        self._feed.lost(self)

    def send(self, frame: bytes) -> None:
        """Sends one frame; what the socket does not take at once waits in memory. Never raises."""
        if self._transport is not None and not self._transport.is_closing():  # else it is lost in a moment
            self._transport.write(frame)

    def close(self) -> None:
        """Hangs up at once."""
        if self._transport is not None:
            self._transport.abort()

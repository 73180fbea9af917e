"""Take in Envoy's access logs (envoy.service.accesslog.v3.AccessLogService.StreamAccessLogs).

Messages of all streams are gathered and decoded together, a slice at a time, because a slice has a cost of its own. It
is decoded in steps, so that checks do not wait for it long. Nothing is ever acknowledged by message.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import structlog

from mixer_py.calls import Call
from mixer_py.errors import InvalidRequestError
from mixer_py.instruments import Clock, Registry
from mixer_py.instruments.stages import stage_durations
from mixer_py.services.precedence import Precedence
from mixer_py.telemetry.access_log.decoding import AccessLogDecoder, DecodedLogs, StreamIdentity, parse_identity
from mixer_py.telemetry.access_log.wire import pieces
from mixer_py.telemetry.booking import MALFORMED
from mixer_py.telemetry.columns import CONNECTIONS, REQUESTS
from mixer_py.telemetry.grouping import Alike

METHOD = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
TABLES = (REQUESTS.name, CONNECTIONS.name)
"""What log entries become rows of."""
EMPTY_RESPONSE = b""
"""A serialized StreamAccessLogsResponse, which has no fields."""

_SLICE_BYTES = 512 * 1024
"""About 500 entries of a kilobyte; half of it costs half as much again an entry. It is more where the slice before is
not done."""
_LARGE_BYTES = 8 * _SLICE_BYTES
"""The most, and a slice where no calls come, of which the first would wait for the longest step; an entry then costs
half."""
_WHOLE_BYTES = 2 * _SLICE_BYTES
"""A message above that is taken in pieces."""
_CUT_SECONDS = 0.05
"""gRPC shows the end of a stream whose message is too large like a half-close, and cancels it a moment later."""
_SLICE_SECONDS = 0.5
"""How long a message may wait for others to be decoded with: a slice takes milliseconds however small it is."""
_PAUSE_SECONDS = 0.001
"""Between two steps of a slice: a call that came meanwhile wants some turns of the loop for its answer."""
_AGAIN_SECONDS = 0.025
"""How soon it is looked again whether calls still come first."""
_QUIET_SECONDS = 0.15
"""A draining stream that brought nothing for so long has nothing on its way."""
_BUSY_SECONDS = 2.0
"""A stream that is never quiet is ended after so long; its client opens another, elsewhere."""
_FINISHED = object()
_IDENTIFIER_TAG = b"\x0a"
"""First byte of a message that begins with StreamAccessLogsMessage.identifier (field 1)."""


class RowTaker(Protocol):
    """Where decoded rows go."""

    def put(self, table: str, batch: pa.RecordBatch) -> None:
        """Takes rows; never raises, never waits."""

    async def room(self, table: str) -> bool:
        """Where rows are not to be dropped for want of room: waits until there is some; whether there was none."""

    async def kept(self, table: str) -> None:
        """Where every row goes to disk before it is written: waits until all that were put are there."""

    def count_dropped(self, table: str, rows: int, reason: str) -> None:
        """Books entries that became no rows as received and dropped."""


class RowCounter(Protocol):
    """What is computed over the rows besides."""

    def count_requests(
        self, rows: pa.RecordBatch, alike: Alike | None = None, for_metrics: pa.RecordBatch | None = None
    ) -> None:
        """Counts finished requests, of which the decoder knows which are alike, and more than rows are to show."""

    def count_connections(self, rows: pa.RecordBatch, opened: npt.NDArray[np.bool_]) -> None:
        """Counts reports about TCP connections, of which some count as their opening."""


@dataclass(slots=True, eq=False)
class _Stream:
    """One open stream and when it last brought a message (monotonic seconds)."""

    task: asyncio.Task[object]
    last_message: float


class AccessLogService:
    """The access-log service of one process."""

    def __init__(
        self,
        decoder: AccessLogDecoder,
        counters: Sequence[RowCounter],
        rows: RowTaker,
        registry: Registry,
        clock: Clock,
        precedence: Precedence | None = None,
    ) -> None:
        """Composes it.

        Args:
            decoder: makes rows of messages.
            counters: what is computed over the rows besides.
            rows: where they go.
            registry: of what is counted.
            clock: of everything that waits.
            precedence: of calls over log streams; None where nothing else is answered.
        """
        self._decoder = decoder
        self._counters = counters
        self._rows = rows
        self._clock = clock
        self._precedence = precedence
        self._log = structlog.get_logger("access_log")
        self._pending: list[tuple[bytes, StreamIdentity]] = []
        self._pending_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._begun: Generator[None, None, None] | None = None
        self._next: asyncio.TimerHandle | None = None
        self._streams: set[_Stream] = set()
        self._draining = False
        self._unfinished = registry.counter(
            "mixer_access_log_unfinished_total",
            "Log entries of requests that had not ended, by Envoy's access_log_type; they become no rows.",
            ("type",),
        )
        self._resumed = registry.counter(
            "mixer_connections_resumed_total",
            "TCP connections first heard of in the middle, whose bytes until then are not counted.",
        ).labels()
        self._ended = registry.counter(
            "mixer_access_log_streams_ended_total",
            "Log streams that ended: half_closed by the client, drained, cut (the call was given up, or a message was "
            "above server.max_message_bytes), failed.",
            ("reason",),
        )
        self._held = registry.counter(
            "mixer_access_log_held_seconds_total",
            "Seconds that log streams were not read on for want of room, of all streams (telemetry.when_full).",
        ).labels()
        stages = stage_durations(registry)
        self._decode_duration = stages.labels("access_log", "decode", "ok")
        self._count_duration = stages.labels("access_log", "metrics", "ok")
        self._put_duration = stages.labels("access_log", "queue", "ok")

    async def stream(self, messages: AsyncIterator[bytes], call: Call) -> bytes:  # noqa: ARG002 (a stream has no deadline)
        """Reads one stream to its end.

        The identifier comes with a stream's first message only and holds for all of them.

        Returns:
            One empty StreamAccessLogsResponse, when the client half-closes or this process drains.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a stream is read by a task")
        stream = _Stream(task, self._clock.monotonic())
        self._streams.add(stream)
        identity = StreamIdentity()
        first, end = True, "failed"
        try:
            async for message in messages:
                if first or message.startswith(_IDENTIFIER_TAG):
                    identity, first = _identity(message, identity), False
                stream.last_message = self._clock.monotonic()
                if self._precedence is not None:
                    self._precedence.used()
                if len(message) > _WHOLE_BYTES:
                    await self._take_large(message, identity)
                else:
                    self._take(message, identity)
                await self._find_room()
                if self._precedence is not None and self._precedence.holds:
                    await self._precedence.give_way()
                    stream.last_message = self._clock.monotonic()  # what came meanwhile is unread
            self._streams.discard(stream)
            if not self._draining:
                await self._work_off()
                self._begin()
                await self._work_off()
                for table in TABLES:
                    await self._rows.kept(table)
                await asyncio.sleep(_CUT_SECONDS)
            end = "half_closed"
        except asyncio.CancelledError:
            end = "drained" if self._draining else "cut"
            if not self._draining:
                raise
        finally:
            self._streams.discard(stream)
            self._ended.labels(end).add()
            self._log.debug("a log stream ended", reason=end)
        return EMPTY_RESPONSE

    def flush(self) -> None:
        """Decodes what is gathered, at once."""
        self._begin()
        self._finish()

    def _begin(self) -> None:
        """Makes a slice of what is gathered, when the one before is finished."""
        self._finish()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending:
            pending, self._pending, self._pending_bytes = self._pending, [], 0
            self._begun = self._record(pending)

    def _finish(self) -> None:
        """Takes every step that is left."""
        for _ in self._withdrawn() or ():
            pass

    def _go_on(self) -> None:
        """Takes one step; the next one when calls have had their turn."""
        begun = self._withdrawn()
        if begun is not None and next(begun, _FINISHED) is not _FINISHED:
            self._begun = begun
            self._next = asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._go_on)

    def _withdrawn(self) -> Generator[None, None, None] | None:
        """What is begun; from now on nobody goes on with it but the caller."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        begun, self._begun = self._begun, None
        return begun

    async def _work_off(self) -> None:
        """Returns when what is begun is done; checks have their turn in between."""
        while self._begun is not None:
            self._go_on()
            await asyncio.sleep(_PAUSE_SECONDS)

    def _record(self, messages: Sequence[tuple[bytes, StreamIdentity]]) -> Generator[None, None, None]:
        """Makes rows of messages, counts them and hands them on, in steps."""
        clock = self._clock
        steps, decoding = self._decoder.steps(messages), 0.0
        while True:
            begun = clock.monotonic()
            try:
                next(steps)
            except StopIteration as end:
                decoded: DecodedLogs = end.value
                break
            finally:
                decoding += clock.monotonic() - begun
            yield
        self._decode_duration.observe(decoding)
        self._book(decoded)
        counting = 0.0
        for counter in self._counters:
            yield
            now = clock.monotonic()
            if decoded.requests.num_rows:
                counter.count_requests(decoded.requests, decoded.alike, decoded.for_metrics)
            if decoded.connections.num_rows:
                counter.count_connections(decoded.connections, decoded.opened)
            counting += clock.monotonic() - now
        self._count_duration.observe(counting)
        yield
        counted = clock.monotonic()
        for table, rows in ((REQUESTS, decoded.requests), (CONNECTIONS, decoded.connections)):
            if rows.num_rows:
                self._rows.put(table.name, rows)
        self._put_duration.observe(clock.monotonic() - counted)

    def _book(self, decoded: DecodedLogs) -> None:
        """Counts what becomes no rows, and why."""
        if decoded.malformed_requests:
            self._rows.count_dropped(REQUESTS.name, decoded.malformed_requests, MALFORMED)
        if decoded.malformed_connections:
            self._rows.count_dropped(CONNECTIONS.name, decoded.malformed_connections, MALFORMED)
        for kind, entries in decoded.unfinished.items():
            self._unfinished.labels(kind).add(entries)
        if decoded.resumed:
            self._resumed.add(decoded.resumed)

    async def drain(self, grace: float) -> None:
        """Ends every stream as soon as it is quiet, at the latest after `grace` seconds or two, and decodes the rest.

        Envoy never half-closes on its own, so waiting for it would take for ever; what it sent before is read first.
        """
        self._draining = True
        if self._precedence is not None:
            self._precedence.release()
            await asyncio.sleep(0)  # those that were held go on first
        deadline = self._clock.monotonic() + min(grace, _BUSY_SECONDS)
        while self._streams:
            now = self._clock.monotonic()
            for stream in tuple(self._streams):
                if now >= deadline or now - stream.last_message >= _QUIET_SECONDS:
                    stream.task.cancel()
            await asyncio.sleep(_QUIET_SECONDS / 3)
        self.flush()

    async def _take_large(self, message: bytes, identity: StreamIdentity) -> None:
        """Takes a message in pieces, and lets checks in between; what has come is taken also when the stream ends."""
        parts = iter(pieces(message, _SLICE_BYTES))
        try:
            for part in parts:
                self._take(part, identity)
                await self._work_off()
        finally:
            for part in parts:
                self._take(part, identity)

    async def _find_room(self) -> None:
        """Does not read on while there is no room for rows; what the client sends then waits with the client."""
        begun = self._clock.monotonic()
        for table in TABLES:
            if await self._rows.room(table):
                self._held.add(self._clock.monotonic() - begun)
                begun = self._clock.monotonic()

    def _take(self, message: bytes, identity: StreamIdentity) -> None:
        self._pending.append((message, identity))
        self._pending_bytes += len(message)
        if self._pending_bytes >= _LARGE_BYTES or (
            self._pending_bytes >= _SLICE_BYTES and self._begun is None and not self._is_alone
        ):
            self._begin()
        if self._begun is not None:  # a step for each message, so that one slice is done before the next is full
            self._go_on()
        if self._pending and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SLICE_SECONDS, self._begin_in_turn)

    @property
    def _is_alone(self) -> bool:
        return self._precedence is not None and self._precedence.alone

    def _begin_in_turn(self) -> None:
        """Decodes what is gathered, unless calls come first."""
        if self._precedence is not None and self._precedence.holds:
            self._timer = asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._begin_in_turn)
        else:
            self._begin()
            self._go_on()


def _identity(message: bytes, current: StreamIdentity) -> StreamIdentity:
    """Who a message says that it comes from; the current one when it does not say, or cannot be read.

    What cannot be read is counted when it is decoded.
    """
    try:
        return parse_identity(message) or current
    except InvalidRequestError:
        return current

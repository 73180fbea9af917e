"""One server: what is charged in one turn of the event loop goes to it in one call, and a breaker stands before it.

Three states. *Connecting*: charges wait, for `timeout` at most. *Closed*, as an electrician says it: they are sent.
*Open*: they fail at once, while a probe in the background tries to connect, with back-off and jitter. The first failure
that is the server's opens it: a refused connection, one that is lost under a call, a call that has no reply in time, a
reply that is an error or that makes no sense. Nothing is ever sent twice, but for what the server says it did not do.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import structlog

from mixer_py.errors import CounterStoreError
from mixer_py.instruments import Clock
from mixer_py.ratelimit.algorithms import Tally
from mixer_py.ratelimit.stores.redis.channel import Channel, Refusal
from mixer_py.ratelimit.stores.redis.instruments import StoreInstruments
from mixer_py.ratelimit.stores.redis.reasons import reason_of
from mixer_py.ratelimit.stores.redis.script import Failure, Script, call, command, header, tallies_of

_MOST_CHARGES: Final = 512
"""Charges made in one call, but for those of one request: the server does nothing else for that long, about 1 ms."""
_GRACE: Final = 0.001
"""Seconds given to replies that have arrived while this process itself was late."""
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0
"""Seconds between two probes."""
_NONE: Final[tuple[Failure, ...]] = ()
_ASKING: Final = command(b"ASKING")
"""Lets the next command reach keys of slots that are on their way to this server."""


class Limits(NamedTuple):
    """What bounds the calls of a server.

    Attributes:
        timeout: seconds that a request waits at most.
        calls: on their way at one time; what comes meanwhile waits for the next.
        queue: requests that wait or are on their way at one time.
        jitter: seconds that a counter outlives its end at most.
        caller_time: whether counters go by this process's clock; else by the server's.
    """

    timeout: float
    calls: int
    queue: int
    jitter: float
    caller_time: bool


class Opened(NamedTuple):
    """A connection that is ready for charges.

    Attributes:
        writer: of the connection.
        script: the one that the server knows.
        address: of the server.
    """

    writer: asyncio.StreamWriter
    script: Script
    address: str


class Charged(NamedTuple):
    """What became of a request's charges.

    Attributes:
        tallies: of each; None for one that failed.
        failures: why.
    """

    tallies: list[Tally | None]
    failures: Sequence[Failure]


class _Request(NamedTuple):
    keys: Sequence[bytes]
    records: bytes
    answer: asyncio.Future[Charged]
    since: float
    asking: bool


class _Batch(NamedTuple):
    requests: Sequence[_Request]
    charges: int
    since: float
    sent: float
    whole: bool
    asking: bool = False
    """The next reply is ASKING's, not the script's."""


Open = Callable[[], Awaitable[Opened]]
"""Opens a connection. Raises CounterStoreError with a reason."""


class Node:
    """One server, for one event loop.

    Attributes:
        name: for people and labels.
    """

    def __init__(
        self,
        name: str,
        open_connection: Open,
        limits: Limits,
        instruments: StoreInstruments,
        clock: Clock,
        on_away: Callable[[], None] = lambda: None,
        *,
        declared: bool,
    ) -> None:
        """Prepares; `start` connects.

        Args:
            name: for people and labels.
            open_connection: opens one to whatever server is the right one now.
            limits: what bounds the calls.
            instruments: what is counted.
            clock: of counters that go by the caller's time.
            on_away: told when the breaker opens.
            declared: whether the keys of a call are told to be keys.
        """
        self.name = name
        self._open = open_connection
        self._limits = limits
        self._instruments = instruments
        self._clock = clock
        self._on_away = on_away
        self._declared = declared
        self._loop = asyncio.get_running_loop()
        self._log = structlog.get_logger("ratelimit").bind(store=name)
        self._channel: Channel | None = None
        self._script: Script
        self._waiting: deque[_Request] = deque()
        self._sent: deque[_Batch] = deque()
        self._outstanding = 0
        self._turn: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._late = 0.0
        """Since when the oldest request waits that was found late; 0 when none was."""
        self._connecting: asyncio.Task[None] | None = None
        self._away = ""
        """Why the breaker is open; empty when it is not."""
        self._closed = False

    @property
    def is_away(self) -> bool:
        """Whether the breaker is open."""
        return bool(self._away)

    def start(self) -> None:
        """Connects, in the background."""
        if self._connecting is None and self._channel is None and not self._closed:
            self._connecting = self._loop.create_task(self._connect())

    def charge(self, keys: Sequence[bytes], records: bytes, *, asking: bool = False) -> Awaitable[Charged]:
        """Charges what one request asks for, with all the others of this turn.

        Args:
            keys: of the counters.
            records: a record for each.
            asking: slots of some keys are on their way to this server, and it is to take the keys already.

        Raises:
            CounterStoreError: at once when the breaker is open or too many wait, else from the awaitable, within the
                timeout.
        """
        if self._away:
            self._instruments.failed("open")
            raise CounterStoreError(self._away)
        if self._outstanding >= self._limits.queue:
            self._instruments.failed("queue_full")
            raise CounterStoreError(f"{self._outstanding} requests wait for {self.name} already")
        request = _Request(keys, records, self._loop.create_future(), self._loop.time(), asking)
        self._waiting.append(request)
        self._outstanding += 1
        if self._turn is None:
            self._turn = self._loop.call_soon(self._send_all)
        if self._timer is None:
            self._timer = self._loop.call_at(request.since + self._limits.timeout, self._look_at_the_time)
        return request.answer

    async def close(self) -> None:
        """Lets what is on its way arrive, then ends the connection."""
        self._closed = True
        answers = [one.answer for one in self._waiting] + [one.answer for batch in self._sent for one in batch.requests]
        if answers:
            await asyncio.wait(answers, timeout=self._limits.timeout)
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait({self._connecting})
        self._fail_all("closed", f"the connection to {self.name} is closed")
        self._away = f"the connection to {self.name} is closed"
        if self._channel is not None:
            self._channel.close()
            self._channel = None
            self._instruments.up(self.name, now=False)
        for handle in (self._turn, self._timer):
            if handle is not None:
                handle.cancel()

    def _send_all(self) -> None:
        """Sends what waits, as far as there may be calls."""
        self._turn = None
        if self._channel is None:
            self.start()
        while self._waiting and self._channel is not None and len(self._sent) < self._limits.calls:
            requests: list[_Request] = []
            charges = 0
            while self._waiting and (not requests or charges + len(self._waiting[0].keys) <= _MOST_CHARGES):
                request = self._waiting.popleft()
                if request.answer.cancelled():  # whoever asked has gone, and nothing was charged
                    self._outstanding -= 1
                    continue
                requests.append(request)
                charges += len(request.keys)
            if requests:
                self._send(self._channel, _Batch(requests, charges, requests[0].since, self._loop.time(), whole=False))
                self._instruments.charges.observe(charges)

    def _send(self, channel: Channel, batch: _Batch) -> None:
        now = self._clock.wall_ns() // 1000 if self._limits.caller_time else None
        arguments = (
            header(now, self._limits.jitter, random.random()),  # noqa: S311 (spreads the ends of counters)
            b"".join([request.records for request in batch.requests]),
        )
        keys = [key for request in batch.requests for key in request.keys]
        words = call(self._script, keys, arguments, declared=self._declared, whole=batch.whole)
        if any(request.asking for request in batch.requests):
            batch, words = batch._replace(asking=True), _ASKING + words
        self._sent.append(batch)
        channel.send(words)

    def _replied(self, reply: bytes | Refusal) -> None:
        if not self._sent:
            self._trip("nonsense", "a reply that was not asked for")
            return
        if self._sent[0].asking:  # where it was refused the script says of which keys, and charges the others
            self._sent[0] = self._sent[0]._replace(asking=False)
            return
        batch = self._sent.popleft()
        if isinstance(reply, Refusal):
            if reply.words.startswith("NOSCRIPT") and not batch.whole and self._channel is not None:
                self._send(self._channel, batch._replace(whole=True))  # it was restarted or flushed; nothing was done
                return
            self._fail_batch(batch, reason_of(reply.words), reply.words)
            self._trip(reason_of(reply.words), reply.words)
            return
        self._instruments.seconds.observe(self._loop.time() - batch.sent)
        try:
            tallies, failures = tallies_of(reply, batch.charges)
        except ValueError as error:
            self._fail_batch(batch, "nonsense", str(error))
            self._trip("nonsense", str(error))
            return
        self._outstanding -= len(batch.requests)
        if failures:
            self._answer_in_part(batch, tallies, failures)
        else:
            position = 0
            for request in batch.requests:
                end = position + len(request.keys)
                if not request.answer.done():
                    request.answer.set_result(Charged(tallies[position:end], _NONE))
                position = end
        if self._waiting and self._turn is None:
            self._send_all()

    def _answer_in_part(self, batch: _Batch, tallies: list[Tally | None], failures: Sequence[Failure]) -> None:
        position = 0
        for request in batch.requests:
            end = position + len(request.keys)
            own = [one._replace(number=one.number - position) for one in failures if position <= one.number < end]
            if not request.answer.done():
                request.answer.set_result(Charged(tallies[position:end], own))
            position = end

    def _look_at_the_time(self) -> None:
        """Finds out whether the oldest request waits for too long; one timer does for all."""
        self._timer = None
        oldest = self._sent[0] if self._sent else self._waiting[0] if self._waiting else None
        if oldest is None:
            return
        due = oldest.since + self._limits.timeout
        if due <= self._loop.time():
            if self._late == oldest.since:
                words = f"no answer within {self._limits.timeout * 1000:g} ms"
                self._trip("timeout", words)
                return
            self._late = oldest.since
            due = self._loop.time() + _GRACE
        self._timer = self._loop.call_at(due, self._look_at_the_time)

    def _lost(self, why: str) -> None:
        """The connection is gone. One that nobody waited on is opened anew; else the server is taken for away."""
        reason, _, words = why.partition(": ")
        if self._outstanding or reason == "nonsense":
            self._trip(reason, words)
        elif not self._closed:
            self._channel = None
            self._instruments.up(self.name, now=False)
            self.start()

    def _trip(self, reason: str, words: str) -> None:
        """Opens the breaker: what waits fails, and a probe tries to connect."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._closed:
            return
        if not self._away:
            self._log.error(
                "the counter store is away", way_out="runbook MixerCounterStoreAway", reason=reason, words=words
            )
            self._instruments.opened(self.name, reason)
            self._instruments.up(self.name, now=False)
        self._away = f"the counter store {self.name} is away: {words}"
        self._fail_all(reason, words)
        self._on_away()
        self.start()

    def _fail_all(self, reason: str, words: str) -> None:
        while self._sent:
            self._fail_batch(self._sent.popleft(), reason, words)
        waiting, self._waiting = list(self._waiting), deque()
        self._fail_batch(_Batch(waiting, 0, 0.0, 0.0, whole=False), reason, words)

    def _fail_batch(self, batch: _Batch, reason: str, words: str) -> None:
        self._outstanding -= len(batch.requests)
        self._instruments.failed(reason, len(batch.requests))
        for request in batch.requests:
            if not request.answer.done():
                request.answer.set_exception(CounterStoreError(f"the counter store {self.name}: {words}"))

    async def _connect(self) -> None:
        """Tries until there is a connection on which the script runs."""
        pause = _FIRST_PAUSE
        while not self._closed:
            try:
                opened = await self._open()
            except CounterStoreError as error:
                self._trip(error.reason, str(error))
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 (spreads the workers' probes)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            self._connecting = None
            self._script = opened.script
            self._channel = Channel(opened.writer, self._replied, self._lost)
            self._instruments.up(self.name, now=True)
            if self._away:
                self._away = ""
                self._log.info("the counter store is back", address=opened.address)
            self._send_all()
            return

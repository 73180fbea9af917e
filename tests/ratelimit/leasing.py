"""Workers over one shared store, each message of which the test carries, loses or keeps back by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from mixer_py.errors import CounterStoreError
from mixer_py.instruments import FakeClock, Registry
from mixer_py.ratelimit.algorithms import SECOND, Tally, Terms
from mixer_py.ratelimit.identity import window_name
from mixer_py.ratelimit.stores import Charge, CounterStore
from mixer_py.ratelimit.stores.leases import LeasingStore
from mixer_py.ratelimit.stores.memory import MemoryStore

START = 1_700_000_000.0 // 3600 * 3600
"""A moment at which windows of up to an hour begin."""


def leased(
    who: str = "a", hits: int = 1, *, limit: int = 100, lease: int = 20, seconds: int = 60,
    algorithm: str = "fixed_window", burst: int | None = None,
) -> Charge:  # fmt: skip
    terms = Terms(algorithm, seconds * SECOND, limit, limit if burst is None else burst)  # type: ignore[arg-type]
    return Charge(("d", window_name(terms), who), terms, hits, lease)


async def turn() -> None:
    """Lets the loop run until nothing happens by itself any more."""
    for _ in range(12):
        await asyncio.sleep(0)


@dataclass
class Message:
    """A call of the shared store, under way."""

    charges: Sequence[Charge]
    together: bool
    reply: asyncio.Future[Sequence[Tally | None]]
    tallies: Sequence[Tally | None] = ()
    served: bool = False

    @property
    def plain(self) -> int:
        """Hits that a caller waits for."""
        return 0 if self.together else sum(max(charge.hits, 0) for charge in self.charges)

    @property
    def gives_back(self) -> bool:
        return any(charge.hits < 0 for charge in self.charges)


@dataclass
class Wire:
    """The way of one worker to the store. By itself it carries everything at once; `held` keeps messages back."""

    store: CounterStore
    clock: FakeClock
    held: bool = False
    away: bool = False
    messages: list[Message] = field(default_factory=list)
    calls: list[tuple[int, ...]] = field(default_factory=list)
    charged: list[tuple[float, int]] = field(default_factory=list)
    """When hits that a caller waited for were admitted, and how many."""
    opened: bool = False
    closed: bool = False

    async def charge(self, charges: Sequence[Charge], *, together: bool = False) -> Sequence[Tally | None]:
        self.calls.append(tuple(charge.hits for charge in charges))
        if self.away:
            raise CounterStoreError("away")
        message = Message(charges, together, asyncio.get_running_loop().create_future())
        self.messages.append(message)
        if not self.held:
            await self.serve(message)
            self.answer(message)
        return await message.reply

    def open(self) -> None:
        self.opened = True

    async def close(self) -> None:
        self.closed = True

    async def serve(self, message: Message) -> None:
        """Has the store charge."""
        if not message.served:
            message.served = True
            message.tallies = await self.store.charge(message.charges, together=message.together)
            if message.plain:
                (tally,) = message.tallies
                if tally is not None and tally.admitted:
                    self.charged.append((self.clock.wall(), message.plain))

    def answer(self, message: Message) -> None:
        self.messages.remove(message)
        if not message.reply.done():
            message.reply.set_result(message.tallies)

    def lose(self, message: Message) -> None:
        """The caller's time is up; whether the store has charged or not."""
        self.messages.remove(message)
        if not message.reply.done():
            message.reply.set_exception(CounterStoreError("timed out"))


class Worker:
    """A process that decides, as far as limits go."""

    def __init__(self, store: CounterStore, clock: FakeClock, most: int = 1000) -> None:
        self.clock = clock
        self.wire = Wire(store, clock)
        self.registry = Registry()
        self.store = LeasingStore(self.wire, clock, self.registry, most)
        self.answered: list[tuple[float, int]] = []
        """When hits were admitted from what was held, and how many."""
        self.asking: list[tuple[asyncio.Task[Sequence[Tally | None]], float, int]] = []

    async def ask(self, charge: Charge) -> None:
        """Charges; a call that waits is looked at by `collect`."""
        before = len(self.wire.messages)
        task = asyncio.create_task(self.store.charge([charge]))
        await turn()
        asked = sum(message.plain for message in self.wire.messages[before:])
        self.asking.append((task, self.clock.wall(), charge.hits - asked))
        self.collect()

    def collect(self) -> None:
        """Counts the calls that have ended; hits that were held count at the moment at which they were asked for."""
        for asking in [asking for asking in self.asking if asking[0].done()]:
            self.asking.remove(asking)
            task, moment, hits = asking
            if task.exception() is None and hits > 0:
                tally = task.result()[0]
                if tally is not None and tally.admitted:
                    self.answered.append((moment, hits))

    def hits(self, fate: str) -> float:
        return self.registry.counter("mixer_leased_hits_total", "", ("fate",)).labels(fate).value

    def leases(self, outcome: str) -> float:
        return self.registry.counter("mixer_leases_total", "", ("outcome",)).labels(outcome).value

    @property
    def usable(self) -> int:
        """Hits that may be used now or are on their way."""
        now = self.clock.monotonic()
        return sum(share.lease - share.room(now) for share in self.store._shares.values())


def memory(clock: FakeClock, capacity: int = 10_000) -> MemoryStore:
    return MemoryStore(clock, Registry(), capacity)

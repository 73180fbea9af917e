"""Which node of a cluster holds which slot: asked at the start, when a key has moved, and while a node is away.

A slot may be moved key by key (MIGRATING, IMPORTING): then the node that holds it has some of its keys and makes no new
ones, and tells of others to which node they go (ASK). It is asked that for one key of each slot of which it lacked one.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import structlog

from mixer_py.errors import CounterStoreError
from mixer_py.ratelimit.stores.redis.connecting import Connector
from mixer_py.ratelimit.stores.redis.node import Node

SLOTS: Final = 16384
_SHORTEST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 1.0
"""Seconds between two questions."""

_MOST_QUESTIONS: Final = 16
"""Slots on their way that are asked after at one time; each question is a connection of its own."""

_ASK: Final = re.compile(r"\bASK \d+ \[?([^\s\]]*?)\]?:(\d+)$")
_NO_KEYS: Final[Mapping[int, bytes]] = MappingProxyType({})

Place = tuple[str, int]
"""Host and port."""


class Range(NamedTuple):
    """Slots that one master holds, the last one too."""

    first: int
    last: int
    place: Place


class Topology:
    """The masters of a cluster, for one event loop."""

    def __init__(self, seeds: Sequence[Place], connector: Connector, make_node: Callable[[Place], Node]) -> None:
        """Prepares; `open` asks.

        Args:
            seeds: some nodes.
            connector: of the nodes.
            make_node: makes a master's node.
        """
        self._seeds = seeds
        self._connector = connector
        self._make_node = make_node
        self._nodes: dict[Place, Node] = {}
        self._slots: list[Node | None] = [None] * SLOTS
        self._lacking: dict[int, bytes] = {}
        """A key that the node of a slot did not have, by slot; as long as the slot is on its way."""
        self._targets: dict[int, Node] = {}
        """Where slots are on their way to."""
        self._questions = asyncio.Semaphore(_MOST_QUESTIONS)
        self._waiting: list[asyncio.Future[None]] = []
        self._wanted = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._away = ""
        self._log = structlog.get_logger("ratelimit").bind(store=",".join(f"{host}:{port}" for host, port in seeds))

    def open(self) -> None:
        """Asks for the first time."""
        if self._asking is None:
            self._wanted.set()
            self._asking = asyncio.get_running_loop().create_task(self._ask_for_ever())

    async def close(self) -> None:
        """Ends the connections to all nodes."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})
        for waiting in self._waiting:
            waiting.cancel()
        await asyncio.gather(*self._retiring, *(node.close() for node in self._nodes.values()))

    def node_of(self, slot: int) -> Node | None:
        """The node that holds a slot, as far as is known."""
        return self._slots[slot]

    def target_of(self, slot: int) -> Node | None:
        """The node that a slot is on its way to, as far as is known; None when it stays where it is."""
        return self._targets.get(slot)

    @property
    def is_known(self) -> bool:
        """Whether any node is known."""
        return bool(self._nodes)

    @property
    def is_away(self) -> bool:
        """Whether something is amiss that another answer may mend."""
        return bool(self._away) or any(node.is_away for node in self._nodes.values())

    async def known(self) -> None:
        """Returns once it is known which nodes there are.

        Raises:
            CounterStoreError: no node told, the last time that they were asked.
        """
        if not self._away:
            self.open()
            await self.renewed()
        if not self._nodes:
            raise CounterStoreError(self._away, "cluster_down")

    def renew(self, lacking: Mapping[int, bytes] = _NO_KEYS) -> None:
        """Asks again soon.

        Args:
            lacking: keys that the nodes of their slots did not have, by slot.
        """
        self._lacking.update(lacking)
        self._wanted.set()

    async def renewed(self, lacking: Mapping[int, bytes] = _NO_KEYS) -> None:
        """Returns when the nodes were asked again; `lacking` as in `renew`."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self.renew(lacking)
        await waiting

    async def _ask_for_ever(self) -> None:
        pause = _SHORTEST_PAUSE
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause if self.is_away else None):
                    await self._wanted.wait()
            self._wanted.clear()
            waiting, self._waiting = self._waiting, []
            lacking, self._lacking = self._lacking, {}
            try:
                ranges = await self._ask()
                targets = await self._follow(ranges, lacking)
                self._lacking = {slot: lacking[slot] for slot in targets} | self._lacking
                self._take(ranges, targets)
            except CounterStoreError as error:
                if not self._away:
                    self._log.error(
                        "no node of the cluster tells which nodes there are",
                        way_out="runbook MixerCounterStoreAway",
                        words=str(error),
                    )
                self._away = f"the cluster of the counter store is away: {error}"
            for one in waiting:
                if not one.done():
                    one.set_result(None)
            pause = min(pause * 2, _LONGEST_PAUSE) if self.is_away else _SHORTEST_PAUSE
            await asyncio.sleep(_SHORTEST_PAUSE)  # so that keys that move do not ask on and on

    async def _ask(self) -> Sequence[Range]:
        """Asks nodes until one tells.

        Raises:
            CounterStoreError: none did.
        """
        able = [place for place, node in self._nodes.items() if not node.is_away]
        others = list({*self._nodes, *self._seeds}.difference(able))
        random.shuffle(able)
        random.shuffle(others)
        failed = CounterStoreError("no node is known")
        for place in (*able, *others):
            try:
                return ranges_of(await self._connector.ask(*place, "CLUSTER", "SLOTS"), place[0])
            except CounterStoreError as error:
                failed = error
        raise failed

    async def _follow(self, ranges: Sequence[Range], lacking: Mapping[int, bytes]) -> Mapping[int, Place]:
        """Where slots are on their way to of which a key was lacking; nothing of those that are not."""
        targets = await asyncio.gather(*(self._target(ranges, slot, key) for slot, key in lacking.items()))
        return {slot: target for slot, target in zip(lacking, targets, strict=True) if target is not None}

    async def _target(self, ranges: Sequence[Range], slot: int, key: bytes) -> Place | None:
        place = next((place for first, last, place in ranges if first <= slot <= last), None)
        if place is None:
            return None
        try:
            async with self._questions:
                await self._connector.ask(*place, "GET", key)
        except CounterStoreError as error:
            return target_of(str(error), place[0])
        return None

    def _take(self, ranges: Iterable[Range], targets: Mapping[int, Place]) -> None:
        slots: list[Node | None] = [None] * SLOTS
        before, self._nodes = self._nodes, {}
        for first, last, place in ranges:
            slots[first : last + 1] = [self._keep(place, before)] * (last + 1 - first)
        self._targets = {slot: self._keep(place, before) for slot, place in targets.items()}
        self._slots = slots
        for node in before.values():
            retiring = asyncio.get_running_loop().create_task(node.close())
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)
        if self._away:
            self._log.info("the nodes of the cluster are known")
        self._away = ""

    def _keep(self, place: Place, before: dict[Place, Node]) -> Node:
        """The node there: one that is known, or another one."""
        node = self._nodes.get(place)
        if node is None:
            known = before.pop(place, None)
            node = self._nodes[place] = known or self._make_node(place)
            node.start()
        return node


def target_of(words: str, asked: str) -> Place | None:
    """The node to which a key goes, by what a server said instead of its value; None when it named none.

    Args:
        words: they hold `ASK`, the slot, and `host:port`; without a host where the server does not know its own.
        asked: host of the server that said so.
    """
    found = _ASK.search(words)
    return (found[1] or asked, int(found[2])) if found else None


def ranges_of(answer: Any, asked: str) -> Sequence[Range]:  # noqa: ANN401 (whatever a server answers)
    """What CLUSTER SLOTS tells of masters.

    Args:
        answer: lists of first slot, last slot, and nodes, the master first: host, port and more.
        asked: host of the node that answered, which may not know its own.

    Raises:
        CounterStoreError: the answer has not that form, or names no node.
    """
    try:
        ranges = [
            Range(int(first), int(last), (_text(master[0]) or asked, int(master[1])))
            for first, last, master, *_ in answer
        ]
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise CounterStoreError(f"CLUSTER SLOTS was answered with nonsense: {error}", "nonsense") from None
    if not ranges or not all(0 <= first <= last < SLOTS for first, last, _ in ranges):
        raise CounterStoreError("CLUSTER SLOTS names no slots", "cluster_down")
    return ranges


def _text(host: bytes | None) -> str:
    name = (host or b"").decode()
    return "" if name == "?" else name

"""Counters in a cluster: each at the node that holds its slot, and one call a node for all that wait in one turn.

A script may reach all slots of its node, so a request is charged at as many nodes as its counters lie on. What is
charged `together` at several nodes is charged at each of them whole or not at all, and given back where another one
refuses: for that moment others may find a counter fuller than it is, and none ever passes its limit.
While a slot is moved key by key, a counter is at one of two nodes: the one that holds the slot says that it has it not,
and then the other is asked, which makes new ones. So each is charged once, wherever it is.
Not for: which node holds which slot (`topology.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from redis.crc import key_slot

from mixer_py.errors import CounterStoreError
from mixer_py.instruments import Clock, Registry
from mixer_py.ratelimit.algorithms import Tally
from mixer_py.ratelimit.stores import Charge
from mixer_py.ratelimit.stores.redis.connecting import Connector
from mixer_py.ratelimit.stores.redis.instruments import StoreInstruments
from mixer_py.ratelimit.stores.redis.node import Charged, Limits, Node
from mixer_py.ratelimit.stores.redis.reasons import reason_of
from mixer_py.ratelimit.stores.redis.script import key_of, records
from mixer_py.ratelimit.stores.redis.topology import Place, Topology

_AWAY: Final = "AWAY "
"""What the words begin with of a failure that is a whole node's."""


@dataclass(slots=True)
class _Part:
    """What one request charges at one node.

    Attributes:
        node: which.
        places: of the charges in the request.
        keys: of their counters.
        charges: themselves.
        asking: whether slots of some keys are on their way to the node.
    """

    node: Node
    places: list[int] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    charges: list[Charge] = field(default_factory=list)
    asking: bool = False


class _Asked(NamedTuple):
    """A request.

    Attributes:
        keys: of the counters.
        charges: of each.
        together: whether all are made or none.
    """

    keys: Sequence[bytes]
    charges: Sequence[Charge]
    together: bool


class ClusterStore:
    """A CounterStore in a cluster, for one event loop."""

    def __init__(
        self,
        seeds: Sequence[Place],
        prefix: str,
        connector: Connector,
        limits: Limits,
        registry: Registry,
        clock: Clock,
    ) -> None:
        """Prepares; `open` connects.

        Args:
            seeds: some nodes.
            prefix: of all keys.
            connector: of the nodes.
            limits: what bounds the calls of each node.
            registry: see `StoreInstruments`.
            clock: of counters that go by the caller's time.
        """
        self._prefix = prefix
        self._connector = connector
        self._limits = limits
        self._clock = clock
        self._instruments = StoreInstruments(registry)
        self._loop = asyncio.get_running_loop()
        self._topology = Topology(seeds, connector, self._make_node)

    @property
    def is_away(self) -> bool:
        """See `CounterStore.is_away`: here, when one node is."""
        return self._topology.is_away

    def open(self) -> None:
        """See `CounterStore.open`."""
        self._topology.open()

    async def close(self) -> None:
        """See `CounterStore.close`."""
        await self._topology.close()

    async def charge(self, charges: Sequence[Charge], *, together: bool = False) -> Sequence[Tally | None]:
        """See `CounterStore.charge`."""
        if not charges:
            return ()
        begun = self._loop.time()
        keys = [key_of(self._prefix, charge.identity) for charge in charges]
        tallies: list[Tally | None] = [None] * len(charges)
        if not self._topology.is_known:
            await self._learn()
        asked = _Asked(keys, charges, together)
        failed = await self._charge(range(len(charges)), asked, tallies)
        if any(reason_of(words) == "moved" for words in failed.values()):
            try:
                async with asyncio.timeout_at(begun + self._limits.timeout):
                    await self._charge_elsewhere(asked, tallies, failed)
            except TimeoutError:
                failed |= {n: "MOVED and not found again in time" for n, one in enumerate(tallies) if one is None}
        failed = {place: words for place, words in failed.items() if tallies[place] is None}
        for words in failed.values():
            if not words.startswith(_AWAY):  # its node has counted it
                self._instruments.failed(reason_of(words))
        if len(failed) == len(charges):
            raise CounterStoreError(next(iter(failed.values())).removeprefix(_AWAY))
        return tallies

    async def _charge_elsewhere(self, asked: _Asked, tallies: list[Tally | None], failed: dict[int, str]) -> None:
        """Charges what its node did not because it had not the key, which is known to be elsewhere or is looked for."""
        for known in (True, False):
            moved = [n for n, words in failed.items() if tallies[n] is None and reason_of(words) == "moved"]
            lacking = {key_slot(asked.keys[place]): asked.keys[place] for place in moved}
            if not moved:
                return
            if known and all(map(self._topology.target_of, lacking)):
                self._topology.renew(lacking)
            else:
                await self._topology.renewed(lacking)
            again = range(len(asked.keys)) if asked.together else moved
            failed |= await self._charge(again, asked, tallies, frozenset(moved))

    async def _learn(self) -> None:
        """Finds out which nodes there are.

        Raises:
            CounterStoreError: no node tells, or not in time.
        """
        try:
            async with asyncio.timeout(self._limits.timeout):
                await self._topology.known()
        except TimeoutError:
            self._instruments.failed("timeout")
            raise CounterStoreError("no node of the cluster has told yet which nodes there are", "timeout") from None
        except CounterStoreError as error:
            self._instruments.failed(error.reason)
            raise

    def _make_node(self, place: Place) -> Node:
        host, port = place
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        connect = partial(self._connector.tcp, host, port)
        return Node(name, connect, self._limits, self._instruments, self._clock, self._topology.renew, declared=False)

    async def _charge(
        self, places: Sequence[int], asked: _Asked, tallies: list[Tally | None], lacking: Container[int] = ()
    ) -> dict[int, str]:
        """Charges those at `places`, each at its node; why some were not charged, by their places.

        Args:
            places: of the charges in the request.
            asked: the request.
            tallies: of all of it; those at `places` are put here.
            lacking: those whose nodes did not have the keys: if a slot is on its way, they are charged at its target.
        """
        parts: dict[Node, _Part] = {}
        failed: dict[int, str] = {}
        for place in places:
            slot = key_slot(asked.keys[place])
            target = self._topology.target_of(slot) if place in lacking else None
            node = target or self._topology.node_of(slot)
            tallies[place] = None
            if node is None:
                failed[place] = "CLUSTERDOWN no node has the slot"
                continue
            part = parts.get(node)
            if part is None:
                part = parts[node] = _Part(node)
            part.places.append(place)
            part.keys.append(asked.keys[place])
            part.charges.append(asked.charges[place])
            part.asking |= target is not None
        if asked.together and failed:
            return dict.fromkeys(places, "CLUSTERDOWN no node has the slot")
        outcomes = await asyncio.gather(
            *(_send(part, part.charges, together=asked.together) for part in parts.values())
        )
        for part, outcome in zip(parts.values(), outcomes, strict=True):
            _put(part, outcome, tallies, failed)
        if asked.together and len(parts) > 1:
            await self._give_back_if_refused(list(parts.values()), tallies, failed)
        return failed

    async def _give_back_if_refused(
        self, parts: Sequence[_Part], tallies: list[Tally | None], failed: dict[int, str]
    ) -> None:
        """Where one node refused, takes back what the others have charged."""
        charged = [part for part in parts if all(_is_admitted(tallies[place]) for place in part.places)]
        if len(charged) == len(parts):
            return
        returned = [[one._replace(hits=-max(one.hits, 0)) for one in part.charges] for part in charged]
        outcomes = await asyncio.gather(
            *(_send(part, back, together=True) for part, back in zip(charged, returned, strict=True))
        )
        for part, outcome in zip(charged, outcomes, strict=True):
            _put(part, outcome, tallies, failed)
            if isinstance(outcome, CounterStoreError):
                self._instruments.failed("not_given_back")


async def _send(part: _Part, charges: Sequence[Charge], *, together: bool) -> Charged | CounterStoreError:
    try:
        return await part.node.charge(part.keys, records(charges, together=together), asking=part.asking)
    except CounterStoreError as error:
        return error


def _put(
    part: _Part, outcome: Charged | CounterStoreError, tallies: list[Tally | None], failed: dict[int, str]
) -> None:
    """Puts what a node answered where it belongs."""
    if isinstance(outcome, CounterStoreError):
        failed.update(dict.fromkeys(part.places, f"{_AWAY}{outcome}"))
        return
    for place, tally in zip(part.places, outcome.tallies, strict=True):
        tallies[place] = tally
    for failure in outcome.failures:
        failed[part.places[failure.number]] = failure.words


def _is_admitted(tally: Tally | None) -> bool:
    return tally is not None and tally.admitted

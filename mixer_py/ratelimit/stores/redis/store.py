"""Counters in one Redis or Valkey: the one that the address names, or the one that its Sentinels call the master."""

from __future__ import annotations

from collections.abc import Sequence

from mixer_py.errors import CounterStoreError
from mixer_py.instruments import Clock, Registry
from mixer_py.ratelimit.algorithms import Tally
from mixer_py.ratelimit.stores import Charge
from mixer_py.ratelimit.stores.redis.instruments import StoreInstruments
from mixer_py.ratelimit.stores.redis.node import Limits, Node, Open
from mixer_py.ratelimit.stores.redis.reasons import reason_of
from mixer_py.ratelimit.stores.redis.script import key_of, records


class RedisStore:
    """A CounterStore in one server, for one event loop."""

    def __init__(
        self,
        name: str,
        prefix: str,
        open_connection: Open,
        limits: Limits,
        registry: Registry,
        clock: Clock,
    ) -> None:
        """Prepares; `open` connects.

        Args:
            name: for people and labels.
            prefix: of all keys.
            open_connection: opens a connection to whatever server is the right one now.
            limits: what bounds the calls.
            registry: see `StoreInstruments`.
            clock: of counters that go by the caller's time.
        """
        self._prefix = prefix
        self._instruments = StoreInstruments(registry)
        self._node = Node(name, open_connection, limits, self._instruments, clock, declared=True)

    @property
    def is_away(self) -> bool:
        """See `CounterStore.is_away`."""
        return self._node.is_away

    def open(self) -> None:
        """See `CounterStore.open`."""
        self._node.start()

    async def charge(self, charges: Sequence[Charge], *, together: bool = False) -> Sequence[Tally | None]:
        """See `CounterStore.charge`."""
        if not charges:
            return ()
        keys = [key_of(self._prefix, charge.identity) for charge in charges]
        tallies, failures = await self._node.charge(keys, records(charges, together=together))
        if failures:
            for failure in failures:
                self._instruments.failed(reason_of(failure.words))
            if len(failures) == len(charges):
                raise CounterStoreError(f"the counter store: {failures[0].words}")
        return tallies

    async def close(self) -> None:
        """See `CounterStore.close`."""
        await self._node.close()

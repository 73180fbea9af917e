"""Gives hits that were taken ahead back to the shared store: all that one turn of the loop lets go of at once.

Not for: which hits may go back (`shares.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from mixer_py.errors import CounterStoreError
from mixer_py.ratelimit.algorithms import Tally
from mixer_py.ratelimit.stores import Charge, CounterStore
from mixer_py.ratelimit.stores.lease_metrics import LeaseMetrics

_SLICE: Final = 500
"""Counters that are given back in one call."""


class Returns:
    """What is on its way back."""

    def __init__(self, shared: CounterStore, metrics: LeaseMetrics) -> None:
        self._shared = shared
        self._metrics = metrics
        self._waiting: list[Charge] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, charge: Charge) -> None:
        """Has negative hits charged behind this turn of the loop."""
        self._waiting.append(charge)
        if len(self._waiting) == 1:
            task = asyncio.create_task(self._send())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        """Waits for what is on its way now."""
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _send(self) -> None:
        """Sends what waits; what the store does not confirm is lost until it is over."""
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), _SLICE):
            some = waiting[start : start + _SLICE]
            try:
                tallies: Sequence[Tally | None] = await self._shared.charge(some)
            except CounterStoreError:
                tallies = [None] * len(some)
            for charge, tally in zip(some, tallies, strict=True):
                (self._metrics.lost if tally is None else self._metrics.given_back).add(-charge.hits)

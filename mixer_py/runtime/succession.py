"""What a worker hands to the one that takes over from it: the counters of rate limits, in slices that stall nobody.

Twice: all of them while it still answers, and what it has counted since once it has stopped. So the successor starts
with the counts that there are, and no hit is lost; while both answer, each knows only its own hits of that moment.
"""

from __future__ import annotations

import asyncio
import pickle
import secrets
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

from mixer_py.errors import CounterStoreError
from mixer_py.ratelimit.stores import Charge, CounterStore
from mixer_py.ratelimit.stores.memory import CounterKey, MemoryStore

_SLICE: Final = 2_000
"""Counters handled before the event loop turns: some milliseconds of work."""


def empty_bequest(folder: Path) -> Path:
    """What a worker hands on that could not write: no counters."""
    path = _new_file(folder)
    path.touch(mode=0o600)
    return path


class Bequest:
    """The counters of a worker, as it hands them on."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._given: dict[CounterKey, int] = {}

    async def write(self, folder: Path) -> Path:
        """Writes what has not been handed on yet to a file in our private folder; its path."""
        path = _new_file(folder)
        charges = self._store.charges(self._given.copy())
        with path.open("xb") as file:
            path.chmod(0o600)
            while some := list(islice(charges, _SLICE)):
                pickle.dump(some, file)
                for charge in some:
                    key = (charge.window, charge.identity)
                    self._given[key] = self._given.get(key, 0) + charge.hits
                await asyncio.sleep(0)
        return path


async def inherit(store: CounterStore, path: Path) -> int:
    """Counts what a predecessor wrote, and removes its file.

    Returns:
        How many counters found no place; the store has counted them as well.
    """
    lost = 0
    with path.open("rb") as file:
        for charges in _slices(file):
            try:
                counts = await store.add(charges)
            except CounterStoreError:
                lost += len(charges)
            else:
                lost += sum(count is None for count in counts)
            await asyncio.sleep(0)
    path.unlink()  # noqa: ASYNC240 (in memory, /dev/shm)
    return lost


def _new_file(folder: Path) -> Path:
    return folder / f"counters-{secrets.token_hex(8)}"


def _slices(file: BinaryIO) -> Iterator[Sequence[Charge]]:
    while True:
        try:
            yield pickle.load(file)  # noqa: S301 (our own file in our own folder)
        except EOFError:
            return

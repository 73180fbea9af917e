"""What a worker hands to the one that takes over from it: the counters of rate limits, in slices that stall nobody.

Twice: all of them while it still answers, and what it has charged since once it has stopped. So the successor starts
with the counts that there are, and no hit is lost; while both answer, each knows only its own hits of that moment.
Counters that several processes share are where they were for the successor too: of them nothing is handed on, and the
hits that were taken ahead of them are given back.
"""

from __future__ import annotations

import asyncio
import pickle
import secrets
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

from mixer_py.ratelimit.stores import Charge, CounterStore
from mixer_py.ratelimit.stores.leases import LeasingStore
from mixer_py.ratelimit.stores.memory import Held, MemoryStore

_SLICE: Final = 2_000
"""Counters handled before the event loop turns: some milliseconds of work."""


def empty_bequest(folder: Path) -> Path:
    """What a worker hands on that could not write: no counters."""
    path = _new_file(folder)
    path.touch(mode=0o600)
    return path


async def hand_on(store: CounterStore, folder: Path) -> Path:
    """Writes every counter to a file in our private folder; its path. From now on the store keeps what it charges."""
    return await _write(store.hand_on(), folder) if isinstance(store, MemoryStore) else empty_bequest(folder)


async def hand_on_rest(store: CounterStore, folder: Path) -> Path:
    """Writes what was charged since the counters were handed on, and gives back what a shared store has leased."""
    if isinstance(store, LeasingStore):
        await store.give_back()
    return await _write(store.charged_since(), folder) if isinstance(store, MemoryStore) else empty_bequest(folder)


async def inherit(store: CounterStore, path: Path) -> int:
    """Takes on what a predecessor wrote, and removes its file.

    Returns:
        How many counters found no place; the store has counted them as well. A store that several processes share
        takes none.
    """
    lost = 0
    if isinstance(store, MemoryStore):
        with path.open("rb") as file:
            for counters, charges in _slices(file):
                lost += store.take_on(counters) + store.take_on_charges(charges)
                await asyncio.sleep(0)
    path.unlink()  # noqa: ASYNC240 (in memory, /dev/shm)
    return lost


async def _write(handed_on: Iterator[Held] | Iterator[Charge], folder: Path) -> Path:
    path = _new_file(folder)
    with path.open("xb") as file:
        path.chmod(0o600)
        while some := list(islice(handed_on, _SLICE)):
            pickle.dump(some, file)
            await asyncio.sleep(0)
    return path


def _new_file(folder: Path) -> Path:
    return folder / f"counters-{secrets.token_hex(8)}"


def _slices(file: BinaryIO) -> Iterator[tuple[Sequence[Held], Sequence[Charge]]]:
    while True:
        try:
            some = pickle.load(file)  # noqa: S301 (our own file in our own folder)
        except EOFError:
            return
        yield [one for one in some if isinstance(one, Held)], [one for one in some if isinstance(one, Charge)]

"""What an answer of a leased counter costs beside one of the Valkey behind it: in turn, in one run, printed.

python benchmarks/leases.py [--rounds 7] [--charges 20000]

Not for: requests over the wire (`rate_limits.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

import uvloop
from servers import Valkey

from mixer_py.instruments import Registry, SystemClock
from mixer_py.ratelimit.algorithms import SECOND, Terms
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores import Charge, CounterStore
from mixer_py.ratelimit.stores.memory import MemoryStore
from mixer_py.ratelimit.stores.opening import open_store

_HOUR = 3600 * SECOND
_CALLERS = 64
_KEYS = 50
_LIMIT = 1_000_000_000
_LEASE = 1_000


def charges(lease: int) -> list[tuple[Charge]]:
    """One charge for each of some counters, which nothing exhausts."""
    terms = Terms("fixed_window", _HOUR, _LIMIT, _LIMIT)
    return [(Charge(("bench", f"lease {lease}", str(key)), terms, 1, lease),) for key in range(_KEYS)]


async def one_after_another(store: CounterStore, wanted: list[tuple[Charge]], number: int) -> None:
    """Charges by one caller."""
    for turn in range(number):
        await store.charge(wanted[turn % _KEYS])


async def at_once(store: CounterStore, wanted: list[tuple[Charge]], number: int) -> None:
    """Charges by many callers, whose calls share a turn of the loop."""
    await asyncio.gather(*(one_after_another(store, wanted, number // _CALLERS) for _ in range(_CALLERS)))


async def measure(address: str, rounds: int, number: int) -> dict[str, dict[str, float]]:
    """Microseconds an answer, the median of the rounds, by store and by how many callers there are."""
    clock = SystemClock()
    settings = RateLimitSettings.model_validate({"store": f"redis://{address}", "timeout": "5s"})
    shared = open_store(settings, Registry(), clock)
    shared.open()
    stores: dict[str, tuple[CounterStore, list[tuple[Charge]]]] = {
        "leased": (shared, charges(_LEASE)),
        "valkey": (shared, charges(0)),
        "memory": (MemoryStore(clock, Registry(), 1_000_000), charges(0)),
    }
    taken: dict[str, dict[str, list[float]]] = {name: {"one": [], "many": []} for name in stores}
    for turn in range(rounds + 1):
        for name, (store, wanted) in stores.items():
            for callers, work in (("one", one_after_another), ("many", at_once)):
                begun = time.perf_counter()
                await work(store, wanted, number)
                if turn:  # the first warms up
                    taken[name][callers].append((time.perf_counter() - begun) / number * 1e6)
    await shared.close()
    return {name: {callers: statistics.median(times) for callers, times in by.items()} for name, by in taken.items()}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--charges", type=int, default=20_000)
    options = parser.parse_args()
    with Valkey() as valkey, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(measure(valkey.address, options.rounds, options.charges))
    for name, by in figures.items():
        ratios = " and ".join(f"{figures['valkey'][callers] / took:.1f}" for callers, took in by.items())
        print(
            f"{name:8} one caller {by['one']:6.1f} µs, {_CALLERS} callers {by['many']:6.1f} µs; Valkey takes {ratios} x"
        )


if __name__ == "__main__":
    main()

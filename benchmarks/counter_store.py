"""What a counter store costs: microseconds of this process's CPU for a request of two charges, one client and many.

    .venv/bin/python benchmarks/counter_store.py

Each contender is run in turn, several times over, against one Valkey on a unix socket; the best of its rounds counts.
Contenders: our store with different numbers of calls on their way, and redis-py's own client with the same script.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import redis.asyncio
import uvloop

from mixer_py.demo.processes import Ports
from mixer_py.instruments import Registry, SystemClock
from mixer_py.ratelimit.algorithms import SECOND, Terms
from mixer_py.ratelimit.identity import counter_identity, window_name
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores import Charge
from mixer_py.ratelimit.stores.memory import MemoryStore
from mixer_py.ratelimit.stores.opening import open_store
from mixer_py.ratelimit.stores.redis.script import charge_script, header, key_of, records, tallies_of
from tests.parts.programs import Programs
from tests.parts.valkey import Valkey

TERMS = Terms("fixed_window", 3600 * SECOND, 2**31, 2**31)
WINDOW = window_name(TERMS)
CLIENTS = (1, 16, 256)
ROUNDS = 5
REQUESTS = 6_000

Ask = Callable[[list[Charge]], Awaitable[object]]


def request(number: int) -> list[Charge]:
    """Two descriptors of three entries: a tenant's, of a thousand, and that of its path."""
    tenant = f"tenant-{number % 1000}"
    entries = (("tenant", tenant, "service", "reviews"), ("tenant", tenant, "path", "/api/v1/items", "method", "GET"))
    return [Charge(counter_identity("shop", WINDOW, one), TERMS, 1) for one in entries]


async def measure(ask: Ask, clients: int) -> tuple[float, float]:
    """Microseconds of CPU and of waiting for a request."""
    numbers = itertools.count()
    waited = 0.0

    async def client() -> None:
        nonlocal waited
        while next(numbers) < REQUESTS:
            charges = request(next(numbers))
            begun = time.perf_counter()
            await ask(charges)
            waited += time.perf_counter() - begun

    begun = time.process_time()
    await asyncio.gather(*(client() for _ in range(clients)))
    made = REQUESTS / 2
    return (time.process_time() - begun) * 1e6 / made, waited * 1e6 / made


async def run(valkey: Valkey) -> None:
    """Measures and prints."""
    clock, script = SystemClock(), charge_script()
    client = redis.asyncio.Redis(unix_socket_path=str(valkey.socket), protocol=2, max_connections=300)
    await client.script_load(script.source)
    stores = {
        calls: open_store(
            RateLimitSettings.model_validate(
                {"store": f"unix://{valkey.socket}", "timeout": "10s", "redis": {"calls": calls}}
            ),
            Registry(),
            clock,
        )
        for calls in (1, 2, 8)
    }
    memory = MemoryStore(clock, Registry(), 100_000)

    async def evalsha(charges: list[Charge]) -> object:
        keys = [key_of("mixer:", one.identity) for one in charges]
        reply = await client.evalsha(script.digest, len(keys), *keys, header(None, 10, 0.5), records(charges))
        return tallies_of(reply, len(charges))

    async def nothing(charges: list[Charge]) -> object:
        return charges

    contenders: dict[str, Ask] = {"nothing (the measurement itself)": nothing, "memory": memory.charge}
    contenders |= {f"ours, {calls} calls on their way": store.charge for calls, store in stores.items()}
    contenders["redis-py's evalsha"] = evalsha
    best: dict[tuple[str, int], tuple[float, float]] = {}
    for _ in range(ROUNDS):
        for clients in CLIENTS:
            for name, ask in contenders.items():
                found = await measure(ask, clients)
                best[name, clients] = min(found, best.get((name, clients), found))
    print(f"| microseconds of CPU (of waiting) a request | {' | '.join(f'{clients} at once' for clients in CLIENTS)} |")
    print(f"|---|{'---|' * len(CLIENTS)}")
    for name in contenders:
        cells = [f"{best[name, clients][0]:.1f} ({best[name, clients][1]:.0f})" for clients in CLIENTS]
        print(f"| {name} | {' | '.join(cells)} |")
    for store in stores.values():
        await store.close()
    await client.aclose()


def main() -> None:
    """Starts a Valkey, and measures."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    ports = Ports()
    with tempfile.TemporaryDirectory() as folder, Programs(Path(folder)) as programs:
        valkey = Valkey(programs, ports)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(valkey))
    ports.close()


if __name__ == "__main__":
    main()

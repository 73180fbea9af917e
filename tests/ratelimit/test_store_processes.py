"""Several processes that count in one store never let in more than the limit: random schedules, a clock that all share.

Each step stands at one moment. In it every process charges what it is told to, all at once; then the clock goes on.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections import defaultdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from mixer_py.instruments import FakeClock, Registry
from mixer_py.ratelimit.algorithms import COUNT, SECOND, Terms
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores import Charge
from mixer_py.ratelimit.stores.opening import open_store
from tests.parts.programs import Programs
from tests.parts.valkey import Valkey
from tests.parts.valkey_groups import Cluster

ROOT = Path(__file__).resolve().parents[2]
PROCESSES, STEPS, LIMIT, WINDOW = 3, 60, 40, 10
BEGIN = 1_700_000_000

pytestmark = pytest.mark.valkey

Asked = list[tuple[bool, list[tuple[str, int]]]]
"""Requests: whether it is all or none, and hits by name."""


async def obey(uri: str, algorithm: str) -> None:
    """One process: a line says how long to wait and what to charge; it answers with what was let in."""
    clock = FakeClock(BEGIN)
    settings = {"store": uri, "timeout": "10s", "time": "caller", "redis": {"connect_timeout": "30s"}}
    store = open_store(RateLimitSettings.model_validate(settings), Registry(), clock)
    store.open()
    terms = Terms(algorithm, WINDOW * SECOND, LIMIT, LIMIT)  # type: ignore[arg-type]

    async def ask(together: bool, hits: list[tuple[str, int]]) -> list[tuple[str, int]]:
        charges = [Charge((algorithm, name), terms, count) for name, count in hits]
        tallies = await store.charge(charges, together=together)
        fits = [tally is not None and tally.admitted for tally in tallies]
        return [one for one, fit in zip(hits, fits, strict=True) if fit and (all(fits) or not together)]

    for line in sys.stdin:
        wait, asked = json.loads(line)
        clock.advance(wait)
        let_in = await asyncio.gather(*(ask(together, hits) for together, hits in asked))
        print(json.dumps([one for request in let_in for one in request]), flush=True)
    await store.close()


def requests_at_random(chance: random.Random) -> Asked:
    def hits() -> list[tuple[str, int]]:
        return [(name, chance.choice((1, 1, 2, 7))) for name in chance.sample("abc", chance.randint(1, 3))]

    return [(chance.random() < 0.3, hits()) for _ in range(chance.randint(0, 8))]


def let_in(uri: str, algorithm: str, chance: random.Random) -> dict[str, list[tuple[Fraction, int]]]:
    """Moments and hits that the processes were let in with, by name."""
    command = [sys.executable, "-m", "tests.ratelimit.test_store_processes", uri, algorithm]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(PROCESSES)]
    seen: dict[str, list[tuple[Fraction, int]]] = defaultdict(list)
    now = Fraction(BEGIN)
    for _ in range(STEPS):
        wait = chance.choice((0.0, 0.25, 0.5, 3.0))
        now += Fraction(wait)
        for process in running:
            print(json.dumps((wait, requests_at_random(chance))), file=process.stdin, flush=True)
        for process in running:
            for name, hits in json.loads(process.stdout.readline()):
                seen[name].append((now, hits))
    for process in running:
        process.communicate(timeout=60)
    assert [process.returncode for process in running] == [0] * PROCESSES
    return seen


def estimate(hits: list[tuple[Fraction, int]], now: Fraction) -> Fraction:
    """What a sliding window has counted at a moment: its own hits, and as much of those before as it still covers."""
    start = now // WINDOW * WINDOW
    own = sum(count for moment, count in hits if start <= moment <= now)
    before = sum(count for moment, count in hits if start - WINDOW <= moment < start)
    return own + before * (start + WINDOW - now) / WINDOW


@pytest.mark.parametrize("make", [Valkey, Cluster])
@pytest.mark.parametrize("algorithm", sorted(COUNT))
def test_processes_together_never_pass_the_limit(programs: Programs, ports, make: Any, algorithm: str) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    seen = let_in(make(programs, ports).uri, algorithm, random.Random(seed))
    assert set(seen) == set("abc")
    for hits in seen.values():
        moments = sorted({moment for moment, _ in hits})
        for at, now in enumerate(moments):
            if algorithm == "token_bucket":
                for since in moments[: at + 1]:
                    admitted = sum(count for moment, count in hits if since <= moment <= now)
                    assert admitted <= LIMIT + (now - since) * Fraction(LIMIT, WINDOW)
            elif algorithm == "sliding_window":
                assert estimate(hits, now) <= LIMIT
            else:
                assert sum(count for moment, count in hits if moment // WINDOW == now // WINDOW) <= LIMIT


if __name__ == "__main__":
    asyncio.run(obey(sys.argv[1], sys.argv[2]))

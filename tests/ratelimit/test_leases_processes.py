"""Several processes with leases over one real Valkey, of which one is killed, one stopped for a while, one drained."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mixer_py.demo.processes import Program
from mixer_py.instruments import Registry, SystemClock
from mixer_py.ratelimit.algorithms import COUNT
from mixer_py.ratelimit.lease_bounds import over_admission, under_admission
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores.leases import LeasingStore
from mixer_py.ratelimit.stores.opening import open_store
from tests.parts.presence import ROOT
from tests.parts.valkey import Valkey
from tests.ratelimit.leasing import leased
from tests.ratelimit.leasing_process import SECONDS

pytestmark = pytest.mark.valkey
LIMIT, LEASE, PROCESSES = 4_000, 100, 4
PATIENT = {"timeout": "10s", "redis": {"expiry_jitter": "0s"}}


def wait_until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("algorithm", sorted(COUNT))
def test_killed_stopped_and_drained_processes_keep_within_both_bounds(
    algorithm: str, programs, ports, tmp_path: Path
) -> None:
    valkey = Valkey(programs, ports)
    settings = json.dumps({"store": valkey.uri, **PATIENT})
    files = [tmp_path / f"hits-{number}" for number in range(PROCESSES)]
    command = [sys.executable, "-m", "tests.ratelimit.leasing_process", settings]
    began = time.time()

    def start(number: int) -> Program:
        words = [*command, files[number], algorithm, str(LIMIT), str(LEASE)]
        return programs.start(f"process-{number}", words, environment={"PYTHONPATH": str(ROOT)})

    def hits(number: int) -> int:
        return files[number].stat().st_size if files[number].exists() else 0

    killed, stopped, drained, steady = (start(number) for number in range(PROCESSES))
    wait_until(lambda: all(hits(number) > 50 for number in range(PROCESSES)))
    killed.kill()
    stopped.signal(signal.SIGSTOP)
    drained.signal(signal.SIGTERM)
    assert drained.wait(60) == 0
    assert steady.wait(120) == 0  # it has used all that nobody held
    held_by_the_dead_and_the_stopped = LIMIT - sum(hits(number) for number in range(PROCESSES))
    stopped.signal(signal.SIGCONT)
    assert stopped.wait(120) == 0

    charge = leased(algorithm=algorithm, limit=LIMIT, lease=LEASE, seconds=SECONDS)
    admitted = sum(hits(number) for number in range(PROCESSES))
    came_back = LIMIT * (time.time() - began) / SECONDS + 1 if algorithm == "token_bucket" else 0
    assert admitted <= LIMIT + over_admission(charge.terms, LEASE, PROCESSES) + came_back
    assert admitted <= LIMIT + came_back  # nothing was charged before the first of them asked
    writing = 1  # it may be killed between a hit and its byte
    assert held_by_the_dead_and_the_stopped <= under_admission(charge.terms, LEASE, 2) + writing
    assert LIMIT - admitted <= under_admission(charge.terms, LEASE, 2) + writing


async def test_what_a_drained_worker_held_is_in_the_valkey_again(programs, ports) -> None:
    valkey = Valkey(programs, ports)
    settings = RateLimitSettings.model_validate({"store": valkey.uri, **PATIENT})
    first, second = (open_store(settings, Registry(), SystemClock()) for _ in range(2))
    charge = leased(limit=LIMIT, lease=LEASE, seconds=SECONDS)
    assert isinstance(first, LeasingStore)
    for store in (first, second):
        store.open()
    await first.charge([charge])
    async with asyncio.timeout(60):
        while not first.held:
            await asyncio.sleep(0.01)
    (tally,) = await second.charge([charge._replace(hits=0, lease=0)])
    assert tally is not None
    assert tally.remaining == LIMIT - 1 - LEASE
    await first.give_back()
    (tally,) = await second.charge([charge._replace(hits=0)])
    assert tally is not None
    assert tally.remaining == LIMIT - 1
    await first.charge([charge])
    await first.close()
    (tally,) = await second.charge([charge._replace(hits=0)])
    assert tally is not None
    assert tally.remaining == LIMIT - 2
    await second.close()


async def test_counters_in_this_process_have_no_leases_before_them() -> None:
    store = open_store(RateLimitSettings(), Registry(), SystemClock())
    assert not isinstance(store, LeasingStore)
    await store.close()

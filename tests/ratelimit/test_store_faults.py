"""A store that is away, slow or confused: calls fail within the timeout, then at once, and it heals by itself."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from mixer_py.errors import CounterStoreError
from mixer_py.instruments import FakeClock, Registry
from mixer_py.ratelimit.algorithms import SECOND, Terms
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores import Charge, CounterStore
from mixer_py.ratelimit.stores.opening import open_store
from mixer_py.ratelimit.stores.redis.script import key_of
from tests.parts.tcp_proxy import FakeServer, SlowProxy
from tests.parts.valkey import Valkey

pytestmark = pytest.mark.valkey
TERMS = Terms("fixed_window", 3600 * SECOND, 1000, 1000)
SLACK = 5.0
"""Seconds that this machine may be busy with something else."""


@pytest.fixture
async def open_at(clock: FakeClock, registry: Registry) -> AsyncIterator[Callable[..., CounterStore]]:
    """Opens the store at an address; closed with the test."""
    async with AsyncExitStack() as stack:

        def make(uri: str, **settings: Any) -> CounterStore:
            whole = {"store": uri, "timeout": "300ms", "time": "caller", **settings}
            store = open_store(RateLimitSettings.model_validate(whole), registry, clock)
            stack.push_async_callback(store.close)
            store.open()
            return store

        yield make


@pytest.fixture
def valkey(programs, ports) -> Valkey:
    return Valkey(programs, ports)


def charge(who: str = "a", hits: int = 1) -> Charge:
    return Charge(("d", who), TERMS, hits)


def errors(registry: Registry, reason: str) -> float:
    return registry.counter("mixer_store_errors_total", "", ("reason",)).labels(reason).value


def opened(registry: Registry, node: str, reason: str) -> float:
    return registry.counter("mixer_counter_store_opened_total", "", ("node", "reason")).labels(node, reason).value


async def failure(store: CounterStore, *charges: Charge) -> str:
    with pytest.raises(CounterStoreError) as caught:
        await store.charge(charges or [charge()])
    return str(caught.value)


async def healed(store: CounterStore, seconds: float = 60) -> int:
    """What is left of the limit after one more hit, once the store answers again."""
    end = time.monotonic() + seconds
    while True:
        try:
            (tally,) = await store.charge([charge()])
        except CounterStoreError:
            assert time.monotonic() < end, "it does not heal"
            await asyncio.sleep(0.02)
        else:
            assert tally is not None
            return tally.remaining


async def test_killed_it_fails_at_once_and_heals_when_it_is_back(open_at, valkey, registry) -> None:
    store, node = open_at(valkey.uri, timeout="10s"), f"127.0.0.1:{valkey.port}"
    assert await healed(store) == 999
    valkey.kill()
    begun = time.monotonic()
    for _ in range(100):
        await failure(store)
    assert time.monotonic() - begun < SLACK
    up = registry.gauge("mixer_counter_store_up", "", ("node",)).labels(node)
    assert up.value == 0
    assert errors(registry, "open") >= 98
    valkey.start()
    assert await healed(store) == 999
    assert up.value == 1


async def test_away_from_the_start_it_fails_at_once_and_heals(open_at, valkey, registry) -> None:
    valkey.kill()
    store = open_at(valkey.uri, timeout="10s")
    await failure(store)
    assert opened(registry, f"127.0.0.1:{valkey.port}", "refused") == 1
    valkey.start()
    assert await healed(store) == 999


async def test_hung_it_fails_within_the_timeout_then_at_once_and_nothing_is_charged_twice(open_at, valkey, registry):
    store, node = open_at(valkey.uri, timeout="1s"), f"127.0.0.1:{valkey.port}"
    assert await healed(store) == 999
    valkey.hang()
    begun = time.monotonic()
    waiting = await asyncio.gather(*(store.charge([charge()]) for _ in range(50)), return_exceptions=True)
    assert 1.0 <= time.monotonic() - begun < 1.0 + SLACK
    assert {type(one) for one in waiting} == {CounterStoreError}
    assert "no answer within 1000 ms" in str(waiting[0])
    assert (errors(registry, "timeout"), opened(registry, node, "timeout")) == (50, 1)
    begun = time.monotonic()
    for _ in range(1000):
        await failure(store)
    assert time.monotonic() - begun < SLACK
    valkey.go_on()
    assert await healed(store) >= 999 - 51  # what had been sent was counted once, or not at all


async def test_slow_it_is_as_if_it_hung(open_at, valkey, registry) -> None:
    with SlowProxy(valkey.port) as proxy:
        store = open_at(f"redis://127.0.0.1:{proxy.port}", timeout="1s")
        assert await healed(store) == 999
        proxy.delay = 4.0
        assert "no answer within 1000 ms" in await failure(store)
        proxy.delay = 0.0
        assert await healed(store) == 997


async def test_a_connection_that_nobody_waits_on_is_made_anew_unseen(open_at, valkey, registry) -> None:
    store = open_at(valkey.uri, timeout="10s")
    assert await healed(store) == 999
    valkey.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await asyncio.sleep(0.1)
    assert [tally.remaining for tally in await store.charge([charge()])] == [998]
    assert opened(registry, f"127.0.0.1:{valkey.port}", "lost") == 0


async def test_a_script_that_was_forgotten_is_sent_again(open_at, valkey, registry) -> None:
    store = open_at(valkey.uri, timeout="10s")
    assert await healed(store) == 999
    valkey.ask("SCRIPT", "FLUSH")
    answers = await asyncio.gather(*(store.charge([charge()]) for _ in range(20)))
    assert [tally.remaining for (tally,) in answers] == list(range(998, 978, -1))


@pytest.mark.parametrize(
    ("commands", "back", "reason"),
    [
        (["REPLICAOF 127.0.0.1 1"], ["REPLICAOF NO ONE"], "read_only"),
        (["CONFIG SET maxmemory 1"], ["CONFIG SET maxmemory 0"], "out_of_memory"),
        (["ACL SETUSER default -get -eval"], ["ACL SETUSER default +@all"], "no_permission"),
        (["ACL SETUSER default -evalsha"], ["ACL SETUSER default +@all"], "no_permission"),
        (["ACL SETUSER default resetkeys ~other*"], ["ACL SETUSER default ~*"], "no_permission"),
    ],
)
async def test_a_server_that_refuses_is_away_for_its_reason(open_at, valkey, registry, commands, back, reason) -> None:
    store = open_at(valkey.uri, timeout="5s")
    assert await healed(store) == 999
    for command in commands:
        assert valkey.ask(*command.split()) == b"+OK\r\n"
    await failure(store)
    assert errors(registry, reason) >= 1
    for command in back:
        assert valkey.ask(*command.split()) == b"+OK\r\n"
    assert await healed(store) >= 990


@pytest.mark.parametrize(
    "value", [b"", b"x" * 23, b"x" * 25, b"\xff" * 24, struct.pack("<ddd", 1, -1, 0), struct.pack("<ddd", 1, 1, 1e300)]
)
async def test_a_value_that_is_no_counter_fails_its_own_charge_only(open_at, valkey, registry, value: bytes) -> None:
    store = open_at(valkey.uri, timeout="5s")
    key = key_of("mixer:", ("d", "a"))
    valkey.ask("SET", key, value)
    first, second = await store.charge([charge("a"), charge("b")])
    assert first is None
    assert second.remaining == 999
    assert errors(registry, "nonsense") == 1
    assert "NONSENSE" in await failure(store)
    assert valkey.ask("GET", key) == b"$%d\r\n%b\r\n" % (len(value), value)
    with pytest.raises(CounterStoreError, match="NONSENSE"):
        await store.charge([charge("a"), charge("b")], together=True)
    assert [tally.remaining for tally in await store.charge([charge("b")])] == [998]


async def test_a_key_of_another_type_fails_its_own_charge_only(open_at, valkey, registry) -> None:
    store = open_at(valkey.uri, timeout="5s")
    valkey.ask("LPUSH", key_of("mixer:", ("d", "a")), "1")
    first, second = await store.charge([charge("a"), charge("b")])
    assert first is None
    assert second.remaining == 999
    assert errors(registry, "nonsense") == 1


TALLY = struct.pack("<?qqqq", True, 1, 2, 3, 4)
NONSENSE = {
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a status": b"+OK\r\n",
    "a number": b":1\r\n",
    "a list": b"*1\r\n$2\r\nab\r\n",
    "nothing": b"$-1\r\n",
    "a length that is none": b"$3x\r\nabc\r\n",
    "too long a length": b"$99999999999\r\n",
    "too long a line": b"$" + b"1" * 100_000,
    "too short": b"$3\r\nabc\r\n",
    "longer than it says": b"$33\r\n" + TALLY + b"xx\r\n",
    "failures of other charges": b"$39\r\n" + TALLY + b"7 ERR\n\r\n",
    "failures that are none": b"$39\r\n" + TALLY + b"0 ERR\n\r\n",
    "failures without a number": b"$39\r\n" + TALLY + b"x ERR\n\r\n",
    "two answers": (b"$33\r\n" + TALLY + b"\r\n") * 2,
    "bytes": bytes(range(256)),
}


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE.keys())
async def test_nonsense_is_a_store_that_is_away(open_at, registry, answer: bytes) -> None:
    with FakeServer(answer) as server:
        store = open_at(f"redis://127.0.0.1:{server.port}", timeout="10s")
        node = f"127.0.0.1:{server.port}"
        if answer.count(TALLY) == 2:
            await store.charge([charge()])
        else:
            await failure(store)
        async with asyncio.timeout(60):
            while not opened(registry, node, "nonsense"):
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("LOADING Redis is loading the dataset in memory", "loading"),
        ("BUSY Redis is busy running a script", "busy"),
        ("MISCONF Redis is configured to save RDB snapshots", "disk"),
        ("NOREPLICAS Not enough good replicas to write", "no_replicas"),
        ("MASTERDOWN Link with MASTER is down", "read_only"),
        ("ERR anything else", "refused"),
    ],
)
async def test_an_error_is_a_store_that_is_away_for_its_reason(open_at, registry, words: str, reason: str) -> None:
    with FakeServer(f"-{words}\r\n".encode()) as server:
        store = open_at(f"redis://127.0.0.1:{server.port}", timeout="10s")
        assert words in await failure(store)
        assert opened(registry, f"127.0.0.1:{server.port}", reason) == 1


@pytest.mark.parametrize("welcome", [b"-LOADING wait\r\n", b"+OK\r\n-ERR\r\n", b"*-7\r\n", b"\0\r\n", b"$3\r\nab"])
async def test_a_server_that_does_not_take_the_script_is_away(open_at, registry, welcome: bytes) -> None:
    with FakeServer(b"", welcome) as server:
        store = open_at(f"redis://127.0.0.1:{server.port}", redis={"connect_timeout": "200ms"})
        await failure(store)
        assert registry.gauge("mixer_counter_store_up", "", ("node",)).labels(f"127.0.0.1:{server.port}").value == 0


async def test_a_server_that_hangs_up_under_a_call_is_away(open_at, registry) -> None:
    with FakeServer(b"") as server:
        store = open_at(f"redis://127.0.0.1:{server.port}", timeout="10s")
        assert "the server closed the connection" in await failure(store)
        assert opened(registry, f"127.0.0.1:{server.port}", "lost") == 1


async def test_no_more_wait_than_may(open_at, valkey, registry) -> None:
    store = open_at(valkey.uri, timeout="5s", redis={"queue": 10})
    assert await healed(store) == 999
    answers = await asyncio.gather(*(store.charge([charge()]) for _ in range(15)), return_exceptions=True)
    assert [isinstance(one, CounterStoreError) for one in answers] == [False] * 10 + [True] * 5
    assert errors(registry, "queue_full") == 5
    assert await healed(store) == 988


async def test_closed_it_waits_for_what_is_on_its_way_and_takes_no_more(open_at, valkey, registry) -> None:
    store = open_at(valkey.uri, timeout="5s")
    waiting = [asyncio.ensure_future(store.charge([charge(str(n))])) for n in range(5)]
    await asyncio.sleep(0)
    await store.close()
    assert [one.remaining for answer in waiting for one in await answer] == [999] * 5
    assert "closed" in await failure(store)

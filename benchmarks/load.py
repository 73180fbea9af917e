"""The client of the benchmark, in a process of its own: a bounded number of calls, then figures as JSON on stdout.

    python benchmarks/load.py check HOST:PORT CALLS
    python benchmarks/load.py limit HOST:PORT CALLS
    python benchmarks/load.py check-16 HOST:PORT CALLS
    python benchmarks/load.py check-64 HOST:PORT CALLS
    python benchmarks/load.py limit-16 HOST:PORT CALLS
    python benchmarks/load.py steady HOST:PORT SECONDS
    python benchmarks/load.py access-log HOST:PORT MESSAGES
    python benchmarks/load.py access-log-beside-checks HOST:PORT MESSAGES

It talks to loopback addresses only.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import NamedTuple

import grpc
import uvloop
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitResponse
from payloads import (
    ACCESS_LOG_METHOD,
    CHECK_METHOD,
    ENTRIES_PER_MESSAGE,
    RATE_LIMIT_METHOD,
    access_log_message,
    check_request,
    rate_limit_request,
)

CONNECTIONS = 4
IN_FLIGHT = 8
MANY_CONNECTIONS = 16
"""Of the loads for several workers, because a connection stays with one. The loads' names say how many calls they have
in flight over these."""
CALLERS = 1000
"""Tenants that ask for quota in turn, each with counters of its own."""
STREAM_MESSAGES_AHEAD = 64
"""Messages that may be under way on a stream before the client pauses, as Envoy's flush interval would make it."""
STEADY_RATE = 200
"""Checks a second of a steady load."""
_PAUSE_BETWEEN_CHECKS = 0.2
"""Seconds; some checks beside thousands of log entries cost nothing that counts."""
_DEADLINE = 30.0
PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}


class Spread(NamedTuple):
    """How calls are spread.

    Attributes:
        connections: to the server.
        in_flight: calls at a time over all of them.
    """

    connections: int
    in_flight: int


FEW = Spread(CONNECTIONS, IN_FLIGHT)
MANY = Spread(MANY_CONNECTIONS, MANY_CONNECTIONS)
BUSY = Spread(MANY_CONNECTIONS, 4 * MANY_CONNECTIONS)


def _channel(address: str, number: int) -> grpc.aio.Channel:
    # Channels of one process share a connection unless their arguments differ.
    return grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1), ("mixer.bench", number)])


async def checks(address: str, calls: int, spread: Spread = FEW) -> dict[str, object]:
    """Checks, all alike."""
    return await _unary(address, calls, spread, CHECK_METHOD, [check_request()], _is_allowed)


async def limits(address: str, calls: int, spread: Spread = FEW) -> dict[str, object]:
    """Requests for quota with two descriptors each, of many callers in turn."""
    requests = [rate_limit_request(2, number) for number in range(CALLERS)]
    return await _unary(address, calls, spread, RATE_LIMIT_METHOD, requests, _is_within_limit)


def _is_allowed(answer: bytes) -> bool:
    return bool(CheckResponse.FromString(answer).HasField("ok_response"))


def _is_within_limit(answer: bytes) -> bool:
    return bool(RateLimitResponse.FromString(answer).overall_code == RateLimitResponse.OK)


async def _unary(
    address: str, calls: int, spread: Spread, method: str, requests: Sequence[bytes], is_good: Callable[[bytes], bool]
) -> dict[str, object]:
    """`calls` calls, some at a time over some connections."""
    channels = [_channel(address, number) for number in range(spread.connections)]
    latencies: list[float] = []
    allowed = 0
    remaining = itertools.count()

    async def caller(number: int) -> None:
        nonlocal allowed
        call = channels[number % spread.connections].unary_unary(method)
        while (turn := next(remaining)) < calls:
            request = requests[turn % len(requests)]
            begun = time.perf_counter()
            answer = await call(request, timeout=_DEADLINE, wait_for_ready=True)
            latencies.append(time.perf_counter() - begun)
            allowed += is_good(answer)

    begun = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(spread.in_flight)))
    seconds = time.perf_counter() - begun
    for channel in channels:
        await channel.close()
    return {"calls": len(latencies), "allowed": allowed, "seconds": seconds, **percentiles(latencies)}


def percentiles(latencies: list[float]) -> dict[str, float]:
    """By name, in the unit of the latencies."""
    latencies.sort()
    return {name: latencies[min(int(len(latencies) * part), len(latencies) - 1)] for name, part in PERCENTILES.items()}


async def steady(address: str, seconds: int) -> dict[str, object]:
    """Checks at a steady pace, whatever becomes of each: how long the slowest took, and how many failed."""
    request = check_request()
    channels = [_channel(address, number) for number in range(CONNECTIONS)]
    calls = [channel.unary_unary(CHECK_METHOD) for channel in channels]
    latencies: list[float] = []
    failures: list[str] = []

    async def one(number: int) -> None:
        begun = time.perf_counter()
        try:
            await calls[number % CONNECTIONS](request, timeout=_DEADLINE)
        except grpc.aio.AioRpcError as error:
            failures.append(f"{error.code().name}: {error.details()}")
        latencies.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    waiting = []
    for number in range(seconds * STEADY_RATE):
        await asyncio.sleep(max(0.0, begun + number / STEADY_RATE - time.perf_counter()))
        waiting.append(asyncio.ensure_future(one(number)))
    await asyncio.gather(*waiting)
    for channel in channels:
        await channel.close()
    return {
        "calls": len(latencies),
        "failed": len(failures),
        "failures": failures[:3],
        **percentiles(latencies),
        "slowest": latencies[-1],
    }


async def access_log(address: str, messages: int) -> dict[str, object]:
    """One stream of `messages` messages, ended by the server's answer to the half-close."""
    payloads = [access_log_message(first * ENTRIES_PER_MESSAGE) for first in range(messages)]
    channel = _channel(address, 0)
    call = channel.stream_unary(ACCESS_LOG_METHOD)(timeout=10 * _DEADLINE, wait_for_ready=True)
    begun = time.perf_counter()
    for number, payload in enumerate(payloads):
        await call.write(payload)
        if number % STREAM_MESSAGES_AHEAD == 0:
            await asyncio.sleep(0)
    await call.done_writing()
    await call
    seconds = time.perf_counter() - begun
    await channel.close()
    return {"entries": messages * ENTRIES_PER_MESSAGE, "bytes": sum(map(len, payloads)), "seconds": seconds}


async def access_log_beside_checks(address: str, messages: int) -> dict[str, object]:
    """The same, and a check now and then, so that logs never come alone and are decoded in smaller slices."""
    channel = _channel(address, 1)
    check, request = channel.unary_unary(CHECK_METHOD), check_request()

    async def now_and_then() -> None:
        while True:
            await check(request, timeout=_DEADLINE, wait_for_ready=True)
            await asyncio.sleep(_PAUSE_BETWEEN_CHECKS)

    checking = asyncio.ensure_future(now_and_then())
    try:
        return await access_log(address, messages)
    finally:
        checking.cancel()
        await asyncio.gather(checking, return_exceptions=True)
        await channel.close()


def main() -> None:
    """Runs one load and prints its figures."""
    kind, address, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if not address.startswith("127."):
        raise SystemExit(f"{address} is not a loopback address")
    works: dict[str, Callable[[str, int], Coroutine[object, object, dict[str, object]]]] = {
        "check": checks,
        "limit": limits,
        "check-16": partial(checks, spread=MANY),
        "check-64": partial(checks, spread=BUSY),
        "limit-16": partial(limits, spread=MANY),
        "steady": steady,
        "access-log": access_log,
        "access-log-beside-checks": access_log_beside_checks,
    }
    work = works[kind]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(work(address, count))))


if __name__ == "__main__":
    main()

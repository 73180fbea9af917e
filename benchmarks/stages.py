"""Where the time of a check goes: each stage alone in a loop, and in a server that is busy with real calls.

    python benchmarks/stages.py [--calls N]

The two differ by a factor of three, because between two calls the kernel and gRPC have filled the caches of the
processor with other things. So what counts in a server is how much code and memory a call touches, and a profiler that
slows every line down alike does not show it. Loopback only; ends by itself; prints a table.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from payloads import CHECK_METHOD, check_request
from servers import HERE, TUTORIAL, free_port

from mixer_py.calls import Call
from mixer_py.instruments import Registry, SystemClock
from mixer_py.policy.point import DecisionPoint
from mixer_py.policy.policy import Policy
from mixer_py.policy.settings import PolicySettings
from mixer_py.services.ext_authz import Authorization, AuthorizationService
from mixer_py.transports import Admission, GrpcioServer, HandlerTable, ServerLimits

_LIMITS = ServerLimits(4 << 20, 1000, 3600, 30, 1000, 16 << 10, 128)
_BATCHES = 5
_ALONE = 5000
Spent = dict[str, list[float]]
"""Microseconds by stage."""


def _timed(spent: Spent, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """The work, with its time noted."""
    times = spent.setdefault(name, [])

    def run(*arguments: Any) -> Any:  # noqa: ANN401 (whatever is timed)
        begun = time.perf_counter_ns()
        found = work(*arguments)
        times.append((time.perf_counter_ns() - begun) / 1e3)
        return found

    return run


def _timed_call(spent: Spent, name: str, work: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    times = spent.setdefault(name, [])

    async def run(*arguments: Any) -> Any:  # noqa: ANN401 (as above)
        begun = time.perf_counter_ns()
        found = await work(*arguments)
        times.append((time.perf_counter_ns() - begun) / 1e3)
        return found

    return run


class _Service(AuthorizationService):
    """The service, with its time and that of parsing noted."""

    def note(self, spent: Spent) -> None:
        self._parse = _timed(spent, "parse the CheckRequest", self._parse)  # type: ignore[method-assign]


class _Engine:
    """An engine whose evaluations are timed."""

    def __init__(self, engine: Any, spent: Spent) -> None:  # noqa: ANN401 (any that there is)
        self._engine = engine
        self.evaluate = _timed_call(spent, "the engine", engine.evaluate)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever the engine has)
        return getattr(self._engine, name)


async def measure(entries: int, calls: int) -> dict[str, tuple[float, float]]:
    """Microseconds of each stage, alone and in a busy server, the median of each."""
    settings = PolicySettings(**TUTORIAL, cache={"entries": entries, "ttl": "600s"})
    busy: Spent = {}
    found: dict[str, tuple[float, float]] = {}
    for spent in ({}, busy):
        clock, registry = SystemClock(), Registry()
        policy = Policy.load(settings, registry=registry)
        (point,) = policy.points
        assert isinstance(point, DecisionPoint)
        service = _Service(Authorization(policy, "revision", "error"), None, registry, clock)
        if spent is busy:
            service.note(spent)
            point._build = _timed(spent, "build the input", point._build)  # noqa: SLF001 (what is measured)
            point._engine = _Engine(point._engine, spent)  # type: ignore[assignment]  # noqa: SLF001
            whole = _timed_call(spent, "the whole check", service.check)
            await _serve(whole, clock, registry, calls)
        else:
            found = await _alone(service, policy, point)
    return {name: (found[name], statistics.median(busy[name])) for name in found if busy.get(name)}


async def _alone(service: AuthorizationService, policy: Policy, point: DecisionPoint) -> dict[str, float]:
    message, call = check_request(), Call()
    request = CheckRequest.FromString(message)
    text = point._build(request)  # noqa: SLF001 (what is measured)
    engine, path = point._engine, policy.points[-1].path  # noqa: SLF001

    async def parse() -> None:
        CheckRequest.FromString(message)

    async def build() -> None:
        point._build(request)  # noqa: SLF001

    stages: dict[str, Callable[[], Awaitable[object]]] = {
        "parse the CheckRequest": parse,
        "build the input": build,
        "the engine": lambda: engine.evaluate(path, text),
        "the whole check": lambda: service.check(message, call),
    }
    return {name: await _median(work) for name, work in stages.items()}


async def _median(work: Callable[[], Awaitable[object]]) -> float:
    batches = []
    for _ in range(_BATCHES):
        begun = time.thread_time()
        for _ in range(_ALONE):
            await work()
        batches.append((time.thread_time() - begun) / _ALONE * 1e6)
    return statistics.median(batches)


async def _serve(check: Callable[..., Awaitable[bytes]], clock: SystemClock, registry: Registry, calls: int) -> None:
    address = f"127.0.0.1:{free_port()}"
    admission = Admission(_LIMITS.max_in_flight, clock, registry)
    server = GrpcioServer(address, HandlerTable({CHECK_METHOD: check}), _LIMITS, admission, clock)
    await server.start()
    client = await asyncio.create_subprocess_exec(
        sys.executable, str(HERE / "load.py"), "check", address, str(calls), stdout=asyncio.subprocess.DEVNULL
    )
    if await client.wait():
        raise SystemExit("the client failed")
    await server.stop(0)


async def run(calls: int) -> None:
    """Measures and prints."""
    print("| stage | alone, µs | in a busy server, µs |\n|---|---|---|")
    for kind, entries in (("from the cache", 1000), ("evaluated", 0)):
        for stage, (alone, busy) in (await measure(entries, calls)).items():
            if entries == 0 or stage == "the whole check":
                print(f"| {kind}: {stage} | {alone:.1f} | {busy:.1f} |")


def main() -> None:
    """Reads the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=5000)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(parser.parse_args().calls))


if __name__ == "__main__":
    main()

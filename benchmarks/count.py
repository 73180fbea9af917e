"""Answer requests for quota in this process, with counters in memory: figures as JSON on stdout. For sizes.

python benchmarks/count.py RULES DESCRIPTORS COUNT
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time

from envoy.service.ratelimit.v3.rls_pb2 import RateLimitResponse
from payloads import rate_limit_request
from servers import memory_now
from sizes import limit_rules

from mixer_py.calls import Call
from mixer_py.instruments import Registry, SystemClock
from mixer_py.ratelimit.answering.limiter import Limiter
from mixer_py.ratelimit.rules import Rules
from mixer_py.ratelimit.stores.memory import MemoryStore
from mixer_py.services.rate_limit import RateLimitService

_BATCHES = 5
_CALLERS = 100


async def measure(rules: int, descriptors: int, count: int) -> dict[str, object]:
    """Seconds and bytes to load; microseconds of CPU an answer in the median batch."""
    before = memory_now()
    begun = time.thread_time()
    compiled = Rules.parse([("limits.yaml", limit_rules(rules).encode())])
    load = time.thread_time() - begun
    memory = memory_now() - before
    clock, registry = SystemClock(), Registry()
    limiter = Limiter(compiled, MemoryStore(clock, registry, 1_000_000), registry, clock)
    service = RateLimitService(limiter, clock, registry)
    requests = [rate_limit_request(descriptors, number) for number in range(_CALLERS)]
    batches = []
    for _ in range(_BATCHES):
        begun = time.thread_time()
        for turn in range(count):
            answer = await service.should_rate_limit(requests[turn % _CALLERS], Call())
        batches.append((time.thread_time() - begun) / count * 1e6)
    statuses = RateLimitResponse.FromString(answer).statuses
    limited = sum(status.HasField("current_limit") for status in statuses)
    return {"load": load, "memory": memory, "limited": limited, "microseconds": statistics.median(batches)}


def main() -> None:
    """Measures and prints."""
    print(json.dumps(asyncio.run(measure(*map(int, sys.argv[1:])))))


if __name__ == "__main__":
    main()

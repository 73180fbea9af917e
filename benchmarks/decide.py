"""Load one policy in this process and decide many times: figures as JSON on stdout. For sizes, not for transports.

python benchmarks/decide.py BUNDLE CACHE_ENTRIES PATH COUNT
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time

from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from payloads import check_request
from servers import memory_now

from mixer_py.policy.policy import Policy
from mixer_py.policy.settings import PolicySettings

_BATCHES = 5


async def measure(bundle: str, entries: int, path: str, count: int) -> dict[str, object]:
    """Seconds and bytes to load; microseconds of CPU a decision in the median batch."""
    before = memory_now()
    begun = time.thread_time()
    policy = Policy.load(PolicySettings(bundles=(bundle,), cache={"entries": entries, "ttl": "600s"}))
    load = time.thread_time() - begun
    request = CheckRequest.FromString(check_request())
    request.attributes.request.http.path = path
    point = policy.select(request)
    ruling = await point.decide(request)
    batches = []
    for _ in range(_BATCHES):
        begun = time.thread_time()
        for _ in range(count):
            ruling = await point.decide(request)
        batches.append((time.thread_time() - begun) / count * 1e6)
    return {
        "load": load,
        "memory": memory_now() - before,
        "allowed": ruling.decision.allowed,
        "tier": ruling.tier,
        "cache": ruling.cache,
        "microseconds": statistics.median(batches),
    }


def main() -> None:
    """Measures and prints."""
    bundle, entries, path, count = sys.argv[1:]
    print(json.dumps(asyncio.run(measure(bundle, int(entries), path, int(count)))))


if __name__ == "__main__":
    main()

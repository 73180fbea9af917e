"""What stands in the counters of a descriptor now, for people: a look charges nothing and counts in no metric.

Not for: which rule matches and why (`explanation.py`), or HTTP (`admin/`).
"""

from __future__ import annotations

from collections.abc import Sequence

from envoy.service.ratelimit.v3 import rls_pb2

from mixer_py.ratelimit.algorithms import SECOND, Tally
from mixer_py.ratelimit.answering.limiter import Limiter
from mixer_py.ratelimit.answering.targets import Target
from mixer_py.ratelimit.rules import Entry
from mixer_py.ratelimit.stores import Charge
from mixer_py.settings import format_duration


async def look(limiter: Limiter, domain: str, descriptors: Sequence[Sequence[Entry]]) -> list[dict[str, object]]:
    """Asks the store.

    Args:
        limiter: of the rules in force.
        domain: as in a request.
        descriptors: as in a request, each looked at as if it came alone.

    Returns:
        For each descriptor its rule, and what is used and what remains of its limit; each value fit for JSON.

    Raises:
        InvalidRequestError: no domain, no descriptors, or too many of them.
        CounterStoreError: the store is away.
    """
    request = rls_pb2.RateLimitRequest(domain=domain)
    for entries in descriptors:
        descriptor = request.descriptors.add()
        descriptor.hits_addend.value = 0
        for entry in entries:
            descriptor.entries.add(key=entry.key, value=entry.value)
    found = await limiter.look(request)
    return [
        {"descriptor": [{"key": entry.key, "value": entry.value} for entry in entries], **_state(*one)}
        for entries, one in zip(descriptors, found, strict=True)
    ]


def _state(target: Target | None, charge: Charge | None, tally: Tally | None) -> dict[str, object]:
    if target is None:
        return {"rule": None}
    if charge is None or tally is None:
        return {"rule": target.name, "unlimited": True}
    terms = target.terms
    return {
        "rule": target.name,
        "algorithm": terms.algorithm,
        "window": format_duration(terms.window / SECOND),
        "limit": terms.limit,
        "burst": terms.burst,
        "lease": target.lease,
        "used": terms.burst - tally.remaining,
        "remaining": tally.remaining,
        "over": not tally.admitted,
        "reset_seconds": tally.reset / SECOND,
        "retry_seconds": tally.retry / SECOND,
        "counter": [part.hex() if isinstance(part, bytes) else part for part in charge.identity],
    }

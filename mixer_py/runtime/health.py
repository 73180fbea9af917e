"""Tells health checkers when a part of a worker is not well, and the supervisor with them.

Not for: a worker that starts or ends, which its listeners tell by themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from mixer_py.instruments import Registry

if TYPE_CHECKING:  # the supervisor, which reads the gauge, does without gRPC
    from mixer_py.transports import Server

UNHEALTHY: Final = "mixer_unhealthy_workers"
_LOOK_SECONDS: Final = 0.1


async def watch_health(unhealthy: Callable[[], Sequence[str]], servers: Sequence[Server], registry: Registry) -> None:
    """Looks again and again, until it is cancelled.

    Args:
        unhealthy: the names that are not well now.
        servers: the listeners whose health services are told.
        registry: gets `mixer_unhealthy_workers`.
    """
    workers = registry.gauge(UNHEALTHY, "Workers that tell health checkers that a part of them is not well.").labels()
    told: frozenset[str] = frozenset()
    while True:
        now = frozenset(unhealthy())
        if now != told:
            for server in servers:
                await server.tell_health(told - now, serving=True)
                await server.tell_health(now - told, serving=False)
            told = now
            workers.set(float(bool(now)))
        await asyncio.sleep(_LOOK_SECONDS)

"""The rooms of one worker, composed: services over a snapshot, and what outlives snapshots — counters and rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from mixer_py.calls import ClientStreamHandler, UnaryHandler
from mixer_py.instruments import Clock, Registry
from mixer_py.ratelimit.limiter import Limiter
from mixer_py.ratelimit.stores.memory import MemoryStore
from mixer_py.runtime.snapshot import Snapshot
from mixer_py.services import ext_authz, rate_limit
from mixer_py.services.ext_authz import Authorization, AuthorizationService
from mixer_py.services.rate_limit import RateLimitService
from mixer_py.transports import HandlerTable


class Rooms:
    """Everything in a worker that answers."""

    def __init__(self, snapshot: Snapshot, registry: Registry, clock: Clock, store_socket: Path | None) -> None:
        self._registry = registry
        self._clock = clock
        settings = snapshot.configuration
        self._counters = MemoryStore(clock, registry, settings.rate_limit.max_counters)
        self._authorization = AuthorizationService(_authorization(snapshot), None, registry, clock)
        self._rate_limit = RateLimitService(self._limiter(snapshot), clock, registry)

    async def start(self) -> None:
        """Begins to write rows."""

    def activate(self, snapshot: Snapshot) -> None:
        """Decides by another snapshot from the next call on; counters and rows stay."""
        self._authorization.activate(_authorization(snapshot))
        self._rate_limit.limiter = self._limiter(snapshot)

    def table(self, services: Iterable[str]) -> HandlerTable:
        """The handlers of a listener.

        Args:
            services: names as in `server.listeners[].services`, `all` spelt out.
        """
        named = set(services)
        unary: dict[str, tuple[str, UnaryHandler]] = {
            "ext_authz": (ext_authz.METHOD, self._authorization.check),
            "rate_limit": (rate_limit.METHOD, self._rate_limit.should_rate_limit),
        }
        return HandlerTable(
            dict(handler for name, handler in unary.items() if name in named),
            {},
            health="health" in named,
            reflection="reflection" in named,
        )

    async def drain_streams(self, grace: float) -> None:
        """Ends the access-log streams once what is on its way has arrived."""

    async def close(self, grace: float) -> None:
        """Writes what waits, for up to `grace` seconds; the rest is counted as dropped."""

    def _limiter(self, snapshot: Snapshot) -> Limiter:
        return Limiter(
            snapshot.rules, self._counters, self._clock, self._registry, snapshot.configuration.rate_limit.on_error
        )


def _authorization(snapshot: Snapshot) -> Authorization:
    policy = snapshot.configuration.policy
    return Authorization(snapshot.policy, snapshot.revision, policy.on_error, policy.dry_run)

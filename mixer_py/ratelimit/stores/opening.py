"""Opens the counter store that `rate_limit.store` names. What it lacks is found here, not by the first call."""

from __future__ import annotations

import ssl
from collections.abc import Hashable
from functools import partial
from typing import TYPE_CHECKING

from mixer_py.errors import ConfigurationError, Fault
from mixer_py.instruments import Clock, Registry
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores import CounterStore
from mixer_py.ratelimit.stores.addresses import RedisAddress, parse_store
from mixer_py.ratelimit.stores.leases import LeasingStore
from mixer_py.ratelimit.stores.local_cache import LocalCache
from mixer_py.ratelimit.stores.memory import MemoryStore

if TYPE_CHECKING:
    from mixer_py.ratelimit.stores.redis.connecting import Connector
    from mixer_py.ratelimit.stores.redis.node import Open


def open_store(
    settings: RateLimitSettings, registry: Registry, clock: Clock, *, name: str | None = None
) -> CounterStore:
    """The store; call it in the event loop that charges, and then its `open`.

    One that several processes share has leases before it; counters in this process would not be faster for them.

    Args:
        settings: its address, and how it is spoken to.
        registry: of what it counts.
        clock: of what goes by this process's time.
        name: what people and metrics call a server that is mixer's own, wherever it listens; else its address.

    Raises:
        ConfigurationError: a secret or a certificate cannot be read.
    """
    address = parse_store(settings.store)
    if address is None:
        return MemoryStore(clock, registry, settings.max_counters)
    store = _open_redis(address, name or address.name, settings, registry, clock)
    if settings.local_cache:
        store = LocalCache(store, settings.local_cache, registry, clock)
    return LeasingStore(store, clock, registry)


def opened_by(settings: RateLimitSettings) -> Hashable:
    """What of the settings `open_store` goes by: where it is equal, the store that is open may stay.

    With the content of secrets, so that a changed password is used after a reload.
    """
    if parse_store(settings.store) is None:
        return None
    redis = settings.redis
    secrets = tuple(secret and secret.reveal() for secret in (redis.password, redis.sentinel_password))
    own = settings.store, settings.timeout, settings.time, settings.local_cache
    return own, redis.model_dump_json(), secrets


def check_store(settings: RateLimitSettings) -> None:
    """Finds what `open_store` would raise, and opens nothing.

    Raises:
        ConfigurationError: a secret or a certificate cannot be read.
    """
    address = parse_store(settings.store)
    if address is not None:
        connector(address, settings)


def _open_redis(
    address: RedisAddress, name: str, settings: RateLimitSettings, registry: Registry, clock: Clock
) -> CounterStore:
    from mixer_py.ratelimit.stores.redis.cluster import ClusterStore  # noqa: PLC0415 (redis-py takes long to import)
    from mixer_py.ratelimit.stores.redis.node import Limits  # noqa: PLC0415 (idem)
    from mixer_py.ratelimit.stores.redis.store import RedisStore  # noqa: PLC0415 (idem)

    opening_by = connector(address, settings)
    redis = settings.redis
    limits = Limits(settings.timeout, redis.calls, redis.queue, redis.expiry_jitter, settings.time == "caller")
    if address.kind == "cluster":
        return ClusterStore(address.hosts, redis.prefix, opening_by, limits, registry, clock)
    return RedisStore(name, redis.prefix, way_to(address, opening_by), limits, registry, clock)


def way_to(address: RedisAddress, opening_by: Connector) -> Open:
    """What opens a connection to the server that counts, by an address that is of no cluster."""
    from mixer_py.ratelimit.stores.redis.sentinels import Sentinels  # noqa: PLC0415 (redis-py takes long to import)

    if address.kind == "sentinel":
        return Sentinels(address.hosts, address.master, opening_by).master
    if address.kind == "unix":
        return partial(opening_by.unix, address.path)
    return partial(opening_by.tcp, *address.hosts[0])


def connector(address: RedisAddress, settings: RateLimitSettings) -> Connector:
    """What opens connections to the servers of an address, with the settings' passwords and certificates.

    Raises:
        ConfigurationError: a secret or a certificate cannot be read.
    """
    from mixer_py.ratelimit.stores.redis.connecting import Connector  # noqa: PLC0415 (redis-py takes long to import)

    try:
        return Connector(address, settings.redis)
    except (OSError, UnicodeDecodeError) as error:
        file = str(getattr(error, "filename", None) or "")
        reason = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else str(error)
        raise ConfigurationError([Fault(f"cannot be read: {reason}", file, field="rate_limit.redis")]) from None

"""Whether the store of `rate_limit.store` answers, takes the script, and keeps counters while they are needed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from mixer_py.doctor.clock import compare_clock
from mixer_py.doctor.finding import Finding, fault, good, skipped, warning
from mixer_py.errors import CounterStoreError
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores.addresses import RedisAddress, parse_store
from mixer_py.ratelimit.stores.opening import connector, way_to

if TYPE_CHECKING:
    from mixer_py.ratelimit.stores.redis.connecting import Connector

_KEY: Final = "rate_limit.store"
_MICROSECONDS: Final = 1e6
_SLOW: Final = 0.5
"""The part of `rate_limit.timeout` that one answer may take before it is worth a warning."""


async def examine_counter_store(settings: RateLimitSettings) -> AsyncIterator[Finding]:
    """Connects as a worker does to every server that the address names, and runs the script for nothing.

    Raises:
        ConfigurationError: a secret or a certificate cannot be read.
    """
    address = parse_store(settings.store)
    if address is None:
        yield good("counter store", "is mixer's own memory", _KEY)
        return
    opening = connector(address, settings)
    for host, port in address.hosts if address.kind in {"single", "cluster"} else (("", 0),):
        name = f"{host}:{port}" if host else address.name
        try:
            reached = await _open(opening, address, host, port)
        except CounterStoreError as error:
            yield fault(f"counter store {name}", str(error), _way_out(error.reason), _KEY)
            continue
        yield good(f"counter store {name}", "answers, and takes the script", _KEY)
        if address.kind == "unix":
            yield skipped(f"counter store {name}", "its clock and its eviction are not looked at over a unix socket")
            continue
        for finding in await _questions(opening, reached, settings):
            yield finding


async def _open(opening: Connector, address: RedisAddress, host: str, port: int) -> str:
    """Connects and prepares; where the server is, as `host:port`."""
    opened = await (opening.tcp(host, port) if host else way_to(address, opening)())
    opened.writer.close()
    return opened.address


async def _questions(opening: Connector, reached: str, settings: RateLimitSettings) -> list[Finding]:
    """What else a server tells: its time, and what it does when its memory is full."""
    host, _, port = reached.rpartition(":")
    subject, found = f"counter store {reached}", []
    try:
        began = time.perf_counter()
        seconds, microseconds = await opening.ask(host, int(port), "TIME")
        took = time.perf_counter() - began
        now = int(seconds) + int(microseconds) / _MICROSECONDS
        found.append(compare_clock(subject, now - time.time()))
        if took > settings.timeout * _SLOW:
            message = (
                f"an answer took {took * 1e3:.0f} ms, connecting included, of {settings.timeout * 1e3:.0f} allowed"
            )
            found.append(warning(subject, message, "put it nearer, or raise the timeout", "rate_limit.timeout"))
    except CounterStoreError as error:
        found.append(skipped(subject, f"does not tell the time: {error}"))
    try:
        told = await opening.ask(host, int(port), "CONFIG", "GET", "maxmemory-policy")
    except CounterStoreError:
        return [*found, skipped(subject, "does not tell its maxmemory-policy to this user", "noeviction is right")]
    policy = told[1].decode() if len(told) > 1 else "unknown"
    if policy not in {"noeviction", "volatile-ttl"}:
        way_out = "set maxmemory-policy noeviction, and memory enough"
        message = f"maxmemory-policy is {policy}: under pressure counters vanish, and limits let more through"
        return [*found, warning(subject, message, way_out, _KEY)]
    return [*found, good(subject, f"maxmemory-policy is {policy}", _KEY)]


def _way_out(reason: str) -> str:
    words = {
        "authentication": "see rate_limit.redis.username and password",
        "timeout": "see that nothing drops packets on the way, and that it is not busy",
        "refused": "start it, or mend the address",
        "no_master": "see that the Sentinels know that name",
    }
    return words.get(reason, "its own log says more; docs/ratelimit.md lists what may go wrong")

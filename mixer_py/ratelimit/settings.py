"""The `rate_limit` block of the configuration. Not for: the rules themselves, which stand in files of their own."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from mixer_py.ratelimit.quota_settings import QuotaSettings, check_names
from mixer_py.ratelimit.stores.addresses import parse_store
from mixer_py.ratelimit.stores.redis.settings import RedisSettings
from mixer_py.settings import Duration, LocalPath, Settings

OnError = Literal["error", "allow", "deny"]
"""What a descriptor gets whose counter cannot be kept."""

Time = Literal["server", "caller"]
"""Whose clock counters go by."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2


def _header_name(name: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a header; write letters, digits and hyphens")
    return name


HeaderName = Annotated[str, AfterValidator(_header_name)]


class HeaderSettings(Settings):
    """Headers with which the rate limit service tells Envoy's client about its limits."""

    of: Literal["none", "deciding", "every"] = "none"
    """`deciding` tells the limit of the deciding descriptor in the three headers named below, as envoyproxy/ratelimit
    does; `every` tells those of all descriptors in `RateLimit-Policy` and `RateLimit`
    (draft-ietf-httpapi-ratelimit-headers). With either, an answer over the limit has `Retry-After`, too."""
    limit: HeaderName = "RateLimit-Limit"
    """Of `deciding`: the hits that a window takes."""
    remaining: HeaderName = "RateLimit-Remaining"
    """Of `deciding`: the hits that are left."""
    reset: HeaderName = "RateLimit-Reset"
    """Of `deciding`: seconds until nothing is counted against the limit any more."""


class RateLimitSettings(Settings):
    """Limits for the rate limit service."""

    config: tuple[LocalPath, ...] = ()
    """envoyproxy/ratelimit files, or folders of them (`*.yaml` and `*.yml`, at any depth), verbatim."""
    merge_domains: bool = False
    """Whether several files may declare parts of one domain, as the original's `MERGE_DOMAIN_CONFIG`. The same
    descriptor in two of them is a fault."""
    quotas: Annotated[tuple[QuotaSettings, ...], AfterValidator(check_names)] = ()
    """Quotas that checks are charged for by their attributes, after the policy allowed them."""
    store: str = "memory://"
    """Where counters are kept. `memory://` is the worker's memory, or where several workers count together a Valkey of
    mixer's own (operations.md). `redis://user@host:6379/0` is a Redis or a Valkey, `rediss://` one with TLS,
    `unix:///path?db=0` one behind a unix socket; `redis+sentinel://host:26379,host:26379/master/0` the
    master that Sentinels name, `redis+cluster://host:6379,host:6379` a cluster; both also as `rediss+…`."""
    time: Time = "server"
    """Whose clock decides which window a hit belongs to, with a Redis or a Valkey: `server` is its own, `caller` that
    of the mixer that asks; then the clocks of all mixers have to be equal. `memory://` has one clock."""
    timeout: Duration = Field(default=0.05, gt=0, le=10)
    """How long a request waits for a Redis or a Valkey. Above it the store is taken for away, and calls fail at once
    until it answers again."""
    on_error: OnError = "error"
    """When a counter cannot be kept: `error` fails the call, so that Envoy's `failure_mode_deny` decides; `allow`
    answers OK; `deny` answers OVER_LIMIT."""
    unhealthy_without_store: bool = False
    """While the store is away, answer health checkers that ask for `ratelimit`, or for the rate limit service, with
    NOT_SERVING, and `/healthz/ready` with 503. Other names stay as they are."""
    negative_hits: Literal["authenticated", "always", "never"] = "authenticated"
    """Who may give hits back (`is_negative_hits`): a caller could refill its own quota with them. `authenticated` is a
    caller on a unix socket, whose file decides who may connect, or one whose client certificate was verified."""
    headers: HeaderSettings = HeaderSettings()
    """Which limits the client is told about, and how."""
    metadata: bool = False
    """Whether dynamic metadata also tells what was asked, and the `metadata` of the limits that let a request pass, as
    the original's `RESPONSE_DYNAMIC_METADATA`."""
    max_metric_values: int = Field(default=1000, ge=0)
    """How many values of a rule with `detailed_metric` or `value_to_metric` get series of their own in each worker;
    the others are counted together as `(other)`."""
    near_limit_ratio: float = Field(default=0.8, ge=0, le=1)
    """The part of a limit above which its hits are counted as `near`."""
    shadow_mode: bool = False
    """Let every request in, whatever its limits; hits are counted and statuses told as without it."""
    quota_mode: bool = False
    """Treat every limit as one in `quota_mode`: a request is refused only when all limits that it matches are over."""
    max_counters: int = Field(default=500_000, ge=1)
    """How many live counters `memory://` keeps, at about 350 bytes each. A live counter is never dropped: when all
    places are taken, a new one follows `on_error`. With several workers it bounds the memory of their Valkey."""
    local_cache: int = Field(default=0, ge=0)
    """How many counters of a Redis or a Valkey each worker remembers that are over their limits, at about 500 bytes
    each: it refuses by itself until a hit could fit. Such hits are not counted; 0 asks the store each time."""
    redis: RedisSettings = RedisSettings()
    """How mixer speaks to the Redis or Valkey that `store` names."""

    @field_validator("store")
    @classmethod
    def _names_a_store(cls, store: str) -> str:
        parse_store(store)
        return store

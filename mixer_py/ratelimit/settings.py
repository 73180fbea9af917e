"""The `rate_limit` block of the configuration. Not for: the rules themselves, which stand in files of their own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from mixer_py.settings import LocalPath, Settings

OnError = Literal["error", "allow", "deny"]
"""What a descriptor gets whose counter cannot be kept."""


class RateLimitSettings(Settings):
    """Limits for the rate limit service."""

    config: tuple[LocalPath, ...] = ()
    """envoyproxy/ratelimit files, or folders of them (`*.yaml` and `*.yml`, at any depth), verbatim."""
    quotas: tuple[object, ...] = ()
    """Attribute quotas charged by checks; not built yet, so only an empty list is accepted."""
    store: str = "memory://"
    """Where counters are kept: `memory://` is this process."""
    on_error: OnError = "error"
    """When a counter cannot be kept: `error` fails the call, so that Envoy's `failure_mode_deny` decides; `allow`
    answers OK; `deny` answers OVER_LIMIT."""
    max_counters: int = Field(default=500_000, ge=1)
    """How many live counters `memory://` keeps, at about 350 bytes each. A live counter is never dropped: when all
    places are taken, a new one follows `on_error`."""

    @field_validator("quotas")
    @classmethod
    def _no_quotas_yet(cls, quotas: tuple[object, ...]) -> tuple[object, ...]:
        if quotas:
            raise ValueError("rate_limit.quotas is not built yet in this version; remove its entries")
        return quotas

    @field_validator("store")
    @classmethod
    def _memory_only(cls, store: str) -> str:
        if store == "memory://":
            return store
        if store.startswith(("redis://", "rediss://", "unix://")):
            scheme = store.partition("://")[0]
            raise ValueError(f"rate_limit.store {scheme}:// is not built yet in this version; use memory://")
        raise ValueError("rate_limit.store is no address of a counter store; use memory://")

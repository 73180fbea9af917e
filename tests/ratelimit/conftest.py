"""A limiter over a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mixer_py.instruments import FakeClock, Registry
from mixer_py.ratelimit.rules import Rules
from mixer_py.ratelimit.settings import OnError, RateLimitSettings
from mixer_py.ratelimit.stores import CounterStore
from mixer_py.ratelimit.stores.memory import MemoryStore
from tests.ratelimit.limiting import Limiting


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def make_limiter(clock: FakeClock, registry: Registry) -> Callable[..., Limiting]:
    def make(
        rules: Rules | str,
        store: CounterStore | None = None,
        on_error: OnError = "error",
        capacity: int = 1000,
        **settings: object,
    ) -> Limiting:
        if isinstance(rules, str):
            rules = Rules.parse([("rules.yaml", rules.encode())])
        chosen = RateLimitSettings(on_error=on_error, **settings)
        return Limiting(rules, store or MemoryStore(clock, registry, capacity), registry, clock, chosen)

    return make

"""Hits are counted where they fall: each in one outcome, split at the near mark and at the limit."""

from __future__ import annotations

import pytest
from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf.json_format import ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.errors import CounterStoreError
from mixer_py.instruments import FakeClock, Registry
from mixer_py.ratelimit.algorithms import FIXED_WINDOW, Terms
from mixer_py.ratelimit.answering.statistics import near_room
from mixer_py.ratelimit.rules import Rules
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores.local_cache import LocalCache
from mixer_py.ratelimit.stores.memory import MemoryStore
from tests.ratelimit.limiting import Limiting

RULES = """\
domain: shop
descriptors:
  - key: tenant
    rate_limit: {unit: day, requests_per_unit: 10}
  - key: watched
    shadow_mode: true
    rate_limit: {unit: day, requests_per_unit: 1}
"""


def ask(key: str, hits: int, *, negative: bool = False) -> rls_pb2.RateLimitRequest:
    descriptor = {"entries": [{"key": key, "value": "a"}], "hitsAddend": hits}
    request = ParseDict({"domain": "shop", "descriptors": [descriptor]}, rls_pb2.RateLimitRequest())
    if negative:
        request.descriptors[0].MergeFromString(b"\x20\x01")
    return request


def hits_of(registry: Registry, rule: str = "shop/tenant") -> dict[str, float]:
    found = {}
    for series, values in registry.read():
        labels = dict(series.labels)
        if series.name == "mixer_rate_limit_hits_total" and labels["rule"] == rule:
            found[labels["outcome"]] = values[0]
    return found


def make(registry: Registry, **chosen: object) -> Limiting:
    clock = FakeClock()
    rules = Rules.parse([("rules.yaml", RULES.encode())])
    return Limiting(rules, MemoryStore(clock, registry, 100), registry, clock, RateLimitSettings(**chosen))


@pytest.mark.parametrize(
    ("charges", "wanted"),
    [
        ([1], {"within": 1}),
        ([8], {"within": 8}),
        ([9], {"within": 8, "near": 1}),
        ([8, 2], {"within": 8, "near": 2}),
        ([7, 6], {"within": 8, "near": 2, "over": 3}),
        ([9, 5], {"within": 8, "near": 2, "over": 4}),
        ([10, 5], {"within": 8, "near": 2, "over": 5}),
        ([25], {"within": 8, "near": 2, "over": 15}),
        ([10, 0, 0], {"within": 8, "near": 2}),
    ],
)
async def test_the_hits_of_one_request_are_split(charges: list[int], wanted: dict[str, float]) -> None:
    registry = Registry()
    limiter = make(registry)
    for hits in charges:
        await limiter.should_rate_limit(ask("tenant", hits))
    assert hits_of(registry) == wanted


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), max_size=12), st.floats(0, 1))
async def test_every_hit_stands_in_one_outcome_and_the_limit_parts_them(charges: list[int], ratio: float) -> None:
    registry = Registry()
    limiter = make(registry, near_limit_ratio=ratio)
    for hits in charges:
        await limiter.should_rate_limit(ask("tenant", hits))
    counted = hits_of(registry)
    total, mark = sum(charges), 10 - near_room(Terms(FIXED_WINDOW, 1, 10, 10), ratio)
    assert counted.get("within", 0) == min(total, mark)
    assert counted.get("near", 0) == min(max(total - mark, 0), 10 - mark)
    assert counted.get("over", 0) == max(total - 10, 0)


async def test_what_shadow_mode_lets_in_is_counted_apart() -> None:
    registry = Registry()
    limiter = make(registry)
    await limiter.should_rate_limit(ask("watched", 4))
    assert hits_of(registry, "shop/watched") == {"near": 1, "shadow_over": 3}


async def test_what_is_refused_without_asking_the_store_is_counted_apart() -> None:
    clock, registry = FakeClock(), Registry()
    rules = Rules.parse([("rules.yaml", RULES.encode())])
    store = LocalCache(MemoryStore(clock, registry, 100), 10, registry, clock)
    limiter = Limiting(rules, store, registry, clock)
    for hits in (12, 5):
        await limiter.should_rate_limit(ask("tenant", hits))
    assert hits_of(registry) == {"within": 8, "near": 2, "over": 2, "over_local": 5}


async def test_hits_that_are_given_back_are_counted_apart() -> None:
    registry = Registry()
    limiter = make(registry, negative_hits="always")
    await limiter.should_rate_limit(ask("tenant", 3))
    await limiter.should_rate_limit(ask("tenant", 2, negative=True))
    assert hits_of(registry) == {"within": 3, "given_back": 2}


@pytest.mark.parametrize(
    ("limit", "ratio", "mark"),
    [(10, 0.8, 8), (15, 0.8, 12), (1, 0.8, 0), (0, 0.8, 0), (10, 0.7, 7), (5, 0.8, 4), (2**32 - 1, 0.8, 3435973888)],
)
def test_the_near_mark_is_rounded_down_in_single_precision(limit: int, ratio: float, mark: int) -> None:
    assert limit - near_room(Terms(FIXED_WINDOW, 1, limit, limit), ratio) == mark


async def test_under_global_shadow_mode_everything_is_let_in_and_the_statuses_tell() -> None:
    registry = Registry()
    limiter = make(registry, shadow_mode=True, headers={"of": "deciding"})
    response = await limiter.should_rate_limit(ask("tenant", 12))
    assert response.overall_code == rls_pb2.RateLimitResponse.OK
    assert response.statuses[0].code == rls_pb2.RateLimitResponse.OVER_LIMIT
    assert response.dynamic_metadata["mixer_code"] == "OK"
    assert "Retry-After" not in [header.key for header in response.response_headers_to_add]
    assert hits_of(registry) == {"within": 8, "near": 2, "shadow_over": 2}


async def test_a_rule_that_was_never_hit_has_no_series() -> None:
    registry = Registry()
    make(registry)
    assert hits_of(registry) == {}


async def test_charging_is_timed_when_it_fails_too() -> None:
    class Broken(MemoryStore):
        async def charge(self, charges, *, together=False):
            raise CounterStoreError("away")

    clock, registry = FakeClock(), Registry()
    rules = Rules.parse([("rules.yaml", RULES.encode())])
    for store in (MemoryStore(clock, registry, 10), Broken(clock, registry, 10)):
        limiter = Limiting(rules, store, registry, clock, RateLimitSettings(on_error="allow"))
        await limiter.should_rate_limit(ask("tenant", 1))
    stages = registry.histogram("mixer_stage_duration_seconds", "", ("service", "stage", "outcome"))
    assert [stages.labels("rate_limit", "store", outcome).count for outcome in ("ok", "error")] == [1, 1]

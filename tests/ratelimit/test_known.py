"""Requests that came before: answered as if they came for the first time, and never more of them than there is room."""

from __future__ import annotations

import pytest
from envoy.service.ratelimit.v3 import rls_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.errors import PermissionDeniedError
from mixer_py.instruments import FakeClock, Registry
from mixer_py.ratelimit.answering.known import KnownRequests
from mixer_py.ratelimit.answering.requests import Asked
from mixer_py.ratelimit.answering.wording import varint
from mixer_py.ratelimit.rules import Rules
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores.memory import MemoryStore
from tests.ratelimit.limiting import Limiting

RULES = """\
domain: shop
descriptors:
  - key: tenant
    rate_limit: {unit: minute, requests_per_unit: 3, name: of tenants, replaces: [{name: of paths}]}
  - key: path
    rate_limit: {unit: hour, requests_per_unit: 200, name: of paths, algorithm: token_bucket}
  - key: house
    rate_limit: {unlimited: true}
  - key: watched
    shadow_mode: true
    detailed_metric: true
    metadata: {seen: true}
    rate_limit: {unit: day, requests_per_unit: 2}
  - key: shared
    quota_mode: true
    rate_limit: {unit: second, requests_per_unit: 2, algorithm: sliding_window}
"""
NOTHING = Asked(None, 1, (), (), b"", recurs=True, plain=False)

descriptors = st.lists(
    st.tuples(
        st.sampled_from(["tenant", "path", "house", "watched", "shared", "unheard-of"]),
        st.sampled_from(["a", "b", "c"]),
        st.none() | st.integers(0, 5),
    ),
    min_size=1,
    max_size=4,
)


def request(asked: list[tuple[str, str, int | None]], domain: str = "shop") -> rls_pb2.RateLimitRequest:
    message = rls_pb2.RateLimitRequest(domain=domain)
    for key, value, hits in asked:
        descriptor = message.descriptors.add()
        descriptor.entries.add(key=key, value=value)
        if hits is not None:
            descriptor.hits_addend.value = hits
    return message


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(descriptors, st.sampled_from(["shop", "shop", "shop", "bank"]), st.integers(0, 40)), max_size=30
    ),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["none", "deciding", "every"]),
)
async def test_a_request_that_is_known_is_answered_as_one_that_is_not(
    turns, shadow: bool, metadata: bool, headers: str
):
    settings = RateLimitSettings(shadow_mode=shadow, metadata=metadata, headers={"of": headers}, max_metric_values=2)
    clock = FakeClock()
    remembering, forgetting = (
        Limiting(Rules.parse([("r", RULES.encode())]), MemoryStore(clock, registry, 100), registry, clock, settings)
        for registry in (Registry(), Registry())
    )
    for asked, domain, seconds in turns:
        forgetting._known = KnownRequests()
        answers = [await one.should_rate_limit(request(asked, domain)) for one in (remembering, forgetting)]
        assert answers[0] == answers[1]
        clock.advance(seconds)
    kept = [
        {series.labels: values for series, values in one.registry.read() if series.kind == "counter"}
        for one in (remembering, forgetting)
    ]
    assert kept[0] == kept[1]


async def test_who_may_give_hits_back_is_asked_each_time(make_limiter) -> None:
    limiter = make_limiter(RULES)
    message = request([("path", "a", 1)])
    message.descriptors[0].MergeFromString(b"\x20\x01")
    await limiter.should_rate_limit(message, authenticated=True)
    with pytest.raises(PermissionDeniedError):
        await limiter.should_rate_limit(message, authenticated=False)


async def test_values_beyond_the_bound_are_counted_each_time(make_limiter, registry) -> None:
    limiter = make_limiter(RULES, max_metric_values=1)
    for value in ("a", "b", "b", "b"):
        await limiter.should_rate_limit(request([("watched", value, None)]))
    beyond = registry.counter("mixer_rate_limit_values_overflow_total", "", ("domain", "rule"), max_label_sets=100_000)
    assert beyond.labels("shop", "shop/watched").value == 3


def test_as_much_is_kept_as_there_is_room_for() -> None:
    known = KnownRequests()
    for number in range(50_000):
        known.keep(b"%0100d" % number, NOTHING)
    assert 3_000 < known.size < 7_000


def test_what_is_asked_again_outlives_a_flood_of_what_is_not() -> None:
    known = KnownRequests()
    known.keep(b"often", NOTHING)
    for number in range(50_000):
        known.keep(b"%0100d" % number, NOTHING)
        if number % 1000 == 0:
            assert known.get(b"often") is NOTHING
    assert known.get(b"%0100d" % 0) is None


def test_long_requests_are_not_kept() -> None:
    known = KnownRequests()
    known.keep(b"x" * 5000, NOTHING)
    assert known.get(b"x" * 5000) is None


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1))
def test_numbers_are_written_as_protobuf_does(number: int) -> None:
    message = rls_pb2.RateLimitRequest()
    message.descriptors.add().hits_addend.value = number
    written = message.descriptors[0].hits_addend.SerializeToString()
    assert b"\x08" + varint(number) == (written or b"\x08\x00")


def test_no_number_is_negative() -> None:
    with pytest.raises(ValueError, match="negative"):
        varint(-1)

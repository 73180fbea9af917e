"""What several limits of one request make of it: quota mode and replacing, held against plain models."""

from __future__ import annotations

from dataclasses import dataclass

import orjson
import pytest
from envoy.service.ratelimit.v3 import rls_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.errors import CounterStoreError
from mixer_py.instruments import FakeClock, Registry
from mixer_py.ratelimit.rules import Rules
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores.memory import MemoryStore
from tests.ratelimit.limiting import Limiting

OK, OVER_LIMIT = rls_pb2.RateLimitResponse.OK, rls_pb2.RateLimitResponse.OVER_LIMIT


@dataclass(frozen=True)
class Limit:
    """One limit of the request."""

    over: bool
    quota: bool
    unlimited: bool
    name: str
    replaces: frozenset[str]


@st.composite
def limits(draw: st.DrawFn) -> Limit:
    names = ["one", "two", "three"]
    name = draw(st.sampled_from(["", *names]))
    others = st.frozensets(st.sampled_from([other for other in names if other != name]), max_size=2)
    return Limit(draw(st.booleans()), draw(st.booleans()), draw(st.integers(0, 4)) == 0, name, draw(others))


def written(limits: list[Limit]) -> bytes:
    """A file in which the descriptor `k<n>` has the nth limit."""
    descriptors = []
    for number, limit in enumerate(limits):
        block: dict[str, object] = {"name": limit.name, "replaces": [{"name": name} for name in limit.replaces]}
        block |= (
            {"unlimited": True} if limit.unlimited else {"unit": "day", "requests_per_unit": 0 if limit.over else 5}
        )
        descriptors.append({"key": f"k{number}", "quota_mode": limit.quota, "rate_limit": block})
    return orjson.dumps({"domain": "shop", "descriptors": descriptors})


def request(count: int) -> object:
    asked = rls_pb2.RateLimitRequest(domain="shop")
    for number in range(count):
        asked.descriptors.add().entries.add(key=f"k{number}", value="v")
    return asked


@settings(deadline=None)
@given(st.lists(limits(), min_size=1, max_size=5))
async def test_over_as_the_models_say(limits: list[Limit]) -> None:
    """Over: a limit outside quota mode is over, or all in quota mode are; replaced limits are out of it."""
    registry, clock = Registry(), FakeClock()
    store = MemoryStore(clock, registry, 1000)
    limiter = Limiting(Rules.parse([("shop.yaml", written(limits))]), store, registry, clock)
    answer = await limiter.should_rate_limit(request(len(limits)))

    replaced = frozenset(name for limit in limits for name in limit.replaces)
    counted = [limit for limit in limits if not limit.unlimited and limit.name not in replaced]
    quotas = [limit.over for limit in counted if limit.quota]
    over = any(limit.over for limit in counted if not limit.quota) or (bool(quotas) and all(quotas))
    assert answer.overall_code == (OVER_LIMIT if over else OK)
    for limit, status in zip(limits, answer.statuses, strict=True):
        assert (status.code == OVER_LIMIT) == (limit in counted and limit.over)
        assert status.HasField("current_limit") == (limit in counted)
    metadata = answer.dynamic_metadata.fields
    assert metadata["mixer_code"].string_value == ("OVER_LIMIT" if over else "OK")
    if over:
        decided = int(metadata["mixer_limit"].string_value.removeprefix("shop/k"))
        assert limits[decided] in counted
        assert limits[decided].over


@pytest.mark.parametrize(("on_error", "code"), [("allow", OK), ("deny", OVER_LIMIT)])
async def test_a_quota_whose_counter_cannot_be_kept(on_error: str, code: int) -> None:
    """What is allowed for lack of a counter counts as room, what is denied as none."""
    registry, clock = Registry(), FakeClock()

    class Away(MemoryStore):
        async def charge(self, charges: object, *, together: bool = False) -> object:
            raise CounterStoreError("away")

    rules = Rules.parse([("shop.yaml", written([Limit(False, True, False, "", frozenset())]))])
    store = Away(clock, registry, 10)
    limiter = Limiting(rules, store, registry, clock, RateLimitSettings(on_error=on_error))
    assert (await limiter.should_rate_limit(request(1))).overall_code == code


async def test_metadata_of_one_answer_is_not_in_the_next(make_limiter) -> None:
    """The original merges into the metadata of its rules, and gives one request's to the next."""
    limiter = make_limiter(
        "domain: shop\ndescriptors:\n"
        "  - {key: k0, metadata: {a: {x: 1}}, rate_limit: {unlimited: true}}\n"
        "  - {key: k1, metadata: {a: {y: 2}}, rate_limit: {unlimited: true}}\n",
        metadata=True,
    )
    both = (await limiter.should_rate_limit(request(2))).dynamic_metadata.fields["metadata"].struct_value
    assert set(both["a"]) == {"x", "y"}
    one = (await limiter.should_rate_limit(request(1))).dynamic_metadata.fields["metadata"].struct_value
    assert set(one["a"]) == {"x"}


@pytest.mark.parametrize(
    ("asked", "retry"),
    [
        (["minute", "hour"], "40"),
        (["minute", "hour", "day"], "6400"),
        (["minute", "hour", "day", "room"], "6400"),
        (["minute", "hour", "room"], None),
    ],
)
async def test_retry_after_is_when_one_quota_has_room_and_every_other_limit(
    make_limiter, asked: list[str], retry: str | None
) -> None:
    """The clock stands 40 s before the end of a minute, 2800 s before that of an hour, 6400 s before that of a day."""
    limiter = make_limiter(
        "domain: shop\ndescriptors:\n"
        "  - {key: minute, quota_mode: true, rate_limit: {unit: minute, requests_per_unit: 0}}\n"
        "  - {key: hour, quota_mode: true, rate_limit: {unit: hour, requests_per_unit: 0}}\n"
        "  - {key: room, quota_mode: true, rate_limit: {unit: hour, requests_per_unit: 5}}\n"
        "  - {key: day, rate_limit: {unit: day, requests_per_unit: 0}}\n",
        headers={"of": "deciding"},
    )
    request = rls_pb2.RateLimitRequest(domain="shop")
    for key in asked:
        request.descriptors.add().entries.add(key=key, value="v")
    headers = {
        header.key: header.value for header in (await limiter.should_rate_limit(request)).response_headers_to_add
    }
    assert headers.get("Retry-After") == retry

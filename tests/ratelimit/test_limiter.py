"""What case folders cannot say: errors of the store, counters of the registry, reloads and bytes that mean harm."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf.json_format import MessageToDict, ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.calls import Call
from mixer_py.errors import CounterStoreError, InvalidRequestError, MixerError, PermissionDeniedError
from mixer_py.instruments import FakeClock, Registry
from mixer_py.ratelimit.algorithms import Tally
from mixer_py.ratelimit.answering.requests import MAX_DESCRIPTORS
from mixer_py.ratelimit.rules import Rules
from mixer_py.ratelimit.stores import Charge
from mixer_py.ratelimit.stores.memory import MemoryStore
from mixer_py.services.rate_limit import RateLimitService
from tests.ratelimit.limiting import Limiting
from tests.ratelimit.rate_limit_cases import differences

RULES = """\
domain: shop
descriptors:
  - key: tenant
    rate_limit: {unit: day, requests_per_unit: 2}
  - key: watched
    shadow_mode: true
    rate_limit: {unit: day, requests_per_unit: 0}
  - key: house
    rate_limit: {unlimited: true}
"""
OK, OVER_LIMIT = rls_pb2.RateLimitResponse.OK, rls_pb2.RateLimitResponse.OVER_LIMIT


class BrokenStore:
    async def charge(self, charges: Sequence[Charge], *, together: bool = False) -> Sequence[Tally | None]:
        raise CounterStoreError(f"cannot count {len(charges)}")

    async def close(self) -> None: ...


def ask(*entries: tuple[str, str], domain: str = "shop") -> rls_pb2.RateLimitRequest:
    descriptors = [{"entries": [{"key": key, "value": value}]} for key, value in entries]
    return ParseDict({"domain": domain, "descriptors": descriptors}, rls_pb2.RateLimitRequest())


def counted(registry: Registry) -> dict[tuple[str, ...], float]:
    return {
        tuple(value for _, value in series.labels): values[0]
        for series, values in registry.read()
        if series.name == "mixer_rate_limits_total" and values[0]
    }


def metadata(response: rls_pb2.RateLimitResponse) -> dict[str, object]:
    return MessageToDict(response.dynamic_metadata)


@pytest.mark.parametrize("broken", [True, False])
async def test_on_error_error(make_limiter, registry, clock, broken: bool) -> None:
    limiter = make_limiter(RULES, BrokenStore() if broken else MemoryStore(clock, registry, 0), "error")
    with pytest.raises(CounterStoreError):
        await limiter.should_rate_limit(ask(("tenant", "a")))
    assert counted(registry) == {("shop", "shop/tenant", "ERROR"): 1}


@pytest.mark.parametrize("broken", [True, False])
async def test_a_limit_in_shadow_mode_refuses_nothing_for_lack_of_a_counter(
    make_limiter, registry, clock, broken: bool
) -> None:
    store = BrokenStore() if broken else MemoryStore(clock, registry, 0)
    for chosen, rule in (({}, "watched"), ({"shadow_mode": True}, "tenant")):
        response = await make_limiter(RULES, store, "error", **chosen).should_rate_limit(ask((rule, "a")))
        assert (response.overall_code, response.statuses[0].code) == (OK, OK)
        assert counted(registry)["shop", f"shop/{rule}", "ERROR"] == 1
    with pytest.raises(CounterStoreError):
        await make_limiter(RULES, store, "error").should_rate_limit(ask(("watched", "a"), ("tenant", "a")))


@pytest.mark.parametrize("broken", [True, False])
async def test_on_error_allow(make_limiter, registry, clock, broken: bool) -> None:
    limiter = make_limiter(RULES, BrokenStore() if broken else MemoryStore(clock, registry, 0), "allow")
    response = await limiter.should_rate_limit(ask(("tenant", "a"), ("house", "x"), ("free", "")))
    assert response.overall_code == OK
    assert [status.code for status in response.statuses] == [OK, OK, OK]
    assert not response.statuses[0].HasField("current_limit")
    assert metadata(response) == {"mixer_code": "OK", "mixer_limit": "shop/house", "mixer_remaining": 4294967295}
    assert counted(registry)["shop", "shop/tenant", "ERROR"] == 1


@pytest.mark.parametrize("broken", [True, False])
async def test_on_error_deny(make_limiter, registry, clock, broken: bool) -> None:
    limiter = make_limiter(RULES, BrokenStore() if broken else MemoryStore(clock, registry, 0), "deny")
    response = await limiter.should_rate_limit(ask(("free", ""), ("tenant", "a")))
    assert response.overall_code == OVER_LIMIT
    assert [status.code for status in response.statuses] == [OK, OVER_LIMIT]
    assert metadata(response) == {"mixer_code": "OVER_LIMIT", "mixer_limit": "shop/tenant", "mixer_remaining": 0}
    assert counted(registry)["shop", "shop/tenant", "ERROR"] == 1


async def test_a_full_store_still_holds_the_limits_it_knows(make_limiter) -> None:
    limiter = make_limiter(RULES, on_error="allow", capacity=1)
    for _ in range(2):
        await limiter.should_rate_limit(ask(("tenant", "a")))
    response = await limiter.should_rate_limit(ask(("tenant", "new"), ("tenant", "a")))
    assert [status.code for status in response.statuses] == [OK, OVER_LIMIT]


async def test_what_needs_no_counter_needs_no_store(make_limiter) -> None:
    limiter = make_limiter(RULES, BrokenStore())
    response = await limiter.should_rate_limit(ask(("house", "x"), ("free", "")))
    assert response.overall_code == OK


async def test_decisions_are_counted_by_rule(make_limiter, registry) -> None:
    limiter = make_limiter(RULES)
    for _ in range(3):
        await limiter.should_rate_limit(ask(("tenant", "a"), ("watched", "a"), ("house", "a"), ("free", "a")))
    override = ask(("tenant", "a"))
    override.descriptors[0].limit.requests_per_unit = 9
    override.descriptors[0].limit.unit = 4
    await limiter.should_rate_limit(override)
    await limiter.should_rate_limit(ask(("tenant", "a"), ("tenant", "b"), domain="bank"))
    assert counted(registry) == {
        ("shop", "shop/tenant", "OK"): 2,
        ("shop", "shop/tenant", "OVER_LIMIT"): 1,
        ("shop", "shop/watched", "SHADOW_OVER_LIMIT"): 3,
        ("shop", "shop/house", "OK"): 3,
        ("shop", "(none)", "OK"): 3,
        ("shop", "shop/(override)", "OK"): 1,
        ("(unknown)", "(none)", "OK"): 2,
    }


async def test_counts_survive_a_reload(make_limiter, clock, registry) -> None:
    store = MemoryStore(clock, registry, 10)
    service = RateLimitService(make_limiter(RULES, store), clock, registry)
    message = ask(("tenant", "a")).SerializeToString()
    await service.should_rate_limit(message, Call())
    service.limiter = make_limiter(RULES.replace("requests_per_unit: 2", "requests_per_unit: 5"), store)
    response = rls_pb2.RateLimitResponse.FromString(await service.should_rate_limit(message, Call()))
    assert response.statuses[0].limit_remaining == 3


def give_back(hits: int = 1, *, entry: tuple[str, str] = ("tenant", "a")) -> rls_pb2.RateLimitRequest:
    """A request for negative hits: field 4 of a descriptor, newer than our protos."""
    request = ask(entry)
    request.descriptors[0].hits_addend.value = hits
    request.descriptors[0].MergeFromString(b"\x20\x01")
    return request


@pytest.mark.parametrize(
    ("setting", "authenticated", "taken"),
    [
        ("authenticated", False, False),
        ("authenticated", True, True),
        ("always", False, True),
        ("never", False, False),
        ("never", True, False),
    ],
)
async def test_who_may_give_hits_back(make_limiter, setting: str, authenticated: bool, taken: bool) -> None:
    limiter = make_limiter(RULES, negative_hits=setting)
    await limiter.should_rate_limit(ask(("tenant", "a")))
    if taken:
        response = await limiter.should_rate_limit(give_back(), authenticated=authenticated)
        assert response.statuses[0].limit_remaining == 2
    else:
        with pytest.raises(PermissionDeniedError, match=r"descriptors\[0\].is_negative_hits.*rate_limit.negative_hits"):
            await limiter.should_rate_limit(give_back(), authenticated=authenticated)
        assert (await limiter.should_rate_limit(ask(("tenant", "a")))).statuses[0].limit_remaining == 0


async def test_more_than_was_taken_cannot_be_given_back(make_limiter) -> None:
    limiter = make_limiter(RULES, negative_hits="always")
    response = await limiter.should_rate_limit(give_back(2**64 - 1))
    assert (response.overall_code, response.statuses[0].limit_remaining) == (OK, 2)


async def test_other_unknown_fields_are_passed_over(make_limiter) -> None:
    harmless = ask(("tenant", "a"))
    harmless.descriptors[0].MergeFromString(b"\x20\x00\x98\x06\x01")  # is_negative_hits: false, and a field 99
    response = await make_limiter(RULES).should_rate_limit(harmless)
    assert response.statuses[0].limit_remaining == 1


async def test_the_service_knows_the_caller_from_the_call(make_limiter, clock, registry) -> None:
    service = RateLimitService(make_limiter(RULES), clock, registry)
    message = give_back().SerializeToString()
    assert await service.should_rate_limit(message, Call(authenticated=True))
    with pytest.raises(PermissionDeniedError):
        await service.should_rate_limit(message, Call())


async def test_a_refused_request_charges_nothing(make_limiter) -> None:
    limiter = make_limiter(RULES)
    request = ask(("tenant", "a"), ("tenant", "a"))
    request.descriptors[1].limit.requests_per_unit = 1
    with pytest.raises(InvalidRequestError):
        await limiter.should_rate_limit(request)
    assert (await limiter.should_rate_limit(ask(("tenant", "a")))).statuses[0].limit_remaining == 1


async def test_too_many_descriptors_are_refused(make_limiter) -> None:
    limiter = make_limiter(RULES)
    most = ask(*[("free", "")] * MAX_DESCRIPTORS)
    assert len((await limiter.should_rate_limit(most)).statuses) == MAX_DESCRIPTORS
    with pytest.raises(InvalidRequestError, match="1025 are more than 1024"):
        await limiter.should_rate_limit(ask(*[("free", "")] * (MAX_DESCRIPTORS + 1)))


async def test_metadata_stays_small(make_limiter) -> None:
    long = "descriptors: [{key: k, value: " + "v" * 60_000 + ", rate_limit: {unit: day, requests_per_unit: 1}}]"
    limiter = make_limiter("domain: shop\n" + long)
    response = await limiter.should_rate_limit(ask(("k", "v" * 60_000)))
    assert response.statuses[0].limit_remaining == 0
    assert response.statuses[0].HasField("current_limit")
    assert response.dynamic_metadata.ByteSize() < 4096


GOOD = ask(("tenant", "a"), ("watched", "b")).SerializeToString()


async def test_bytes_that_are_no_request(make_limiter, clock, registry) -> None:
    service = RateLimitService(make_limiter(RULES), clock, registry)
    for message in (b"\xff", GOOD[:-1], b"\x0a\x02\xc3\x28"):  # the last: a domain that is not UTF-8
        with pytest.raises(InvalidRequestError, match="no RateLimitRequest"):
            await service.should_rate_limit(message, Call())


@settings(deadline=None)
@given(
    st.binary(max_size=60) | st.builds(lambda cut, junk: GOOD[:cut] + junk, st.integers(0, 60), st.binary(max_size=20))
)
async def test_any_bytes_get_an_answer_or_a_refusal(message: bytes) -> None:
    clock, registry = FakeClock(), Registry()
    limiter = Limiting(Rules.parse([("r", RULES.encode())]), MemoryStore(clock, registry, 100), registry, clock)
    service = RateLimitService(limiter, clock, registry)
    try:
        answer = await service.should_rate_limit(message, Call())
    except MixerError as error:
        refusal = error
        answer = None
    if answer is None:
        assert isinstance(refusal, InvalidRequestError)
    else:
        request = rls_pb2.RateLimitRequest.FromString(message)
        assert len(rls_pb2.RateLimitResponse.FromString(answer).statuses) == len(request.descriptors)


async def test_durations_are_observed_for_every_outcome(make_limiter, clock, registry) -> None:
    service = RateLimitService(make_limiter(RULES), clock, registry)
    stages = registry.histogram("mixer_stage_duration_seconds", "", ("service", "stage", "outcome"))
    for _ in range(3):
        await service.should_rate_limit(ask(("tenant", "a")).SerializeToString(), Call())
    with pytest.raises(InvalidRequestError):
        await service.should_rate_limit(b"", Call())
    got = {name: stages.labels("rate_limit", "total", name).count for name in ("ok", "over_limit", "error")}
    assert got == {"ok": 2, "over_limit": 1, "error": 1}


async def test_the_runner_of_cases_sees_differences(make_limiter) -> None:
    response = await make_limiter(RULES).should_rate_limit(ask(("tenant", "a")))
    right = {"overallCode": "OK", "statuses": [{"limitRemaining": 1, "durationUntilReset": "6400s"}]}
    assert differences(response, right) == []
    assert differences(response, {"overallCode": "OVER_LIMIT"}) == [
        "response.overallCode: wanted 'OVER_LIMIT', got 'OK'"
    ]
    for wrong in ({"statuses": []}, {"statuses": [{"limitRemaining": 2}]}, {"statuses": [{"currentLimit": None}]}):
        assert len(differences(response, wrong)) == 1
    late = {"statuses": [{"durationUntilReset": "1s"}]}
    assert differences(response, late)
    assert differences(response, late, resets=False) == []

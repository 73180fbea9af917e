"""Every case folder of the rate limit service, offline, through the service's bytes."""

from __future__ import annotations

import pytest
from envoy.service.ratelimit.v3 import rls_pb2

from mixer_py import errors
from mixer_py.calls import Call
from mixer_py.ratelimit.rules import Rules
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.services.rate_limit import RateLimitService
from tests.ratelimit.rate_limit_cases import Case, differences, load_cases

ALL_CASES = load_cases()


@pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: case.name)
async def test_case(case: Case, make_limiter, clock, registry) -> None:
    rules = Rules.load(RateLimitSettings(config=(str(case.config),), **case.settings))
    service = RateLimitService(make_limiter(rules, **case.settings), clock, registry)
    for number, step in enumerate(case.steps):
        clock.advance(step.advance)
        message = step.request.SerializeToString()
        if step.error is not None:
            with pytest.raises(errors.MixerError) as raised:
                await service.should_rate_limit(message, Call())
            assert raised.value.grpc_status == getattr(errors, step.error["status"])
            assert step.error["message"] in str(raised.value)
            continue
        response = rls_pb2.RateLimitResponse.FromString(await service.should_rate_limit(message, Call()))
        assert differences(response, step.want) == [], f"step {number}"


def test_there_are_cases_of_both_kinds() -> None:
    assert len(ALL_CASES) > 20
    assert {True, False} == {case.moves_the_clock for case in ALL_CASES}
    assert any(step.error for case in ALL_CASES for step in case.steps)

"""Headers that tell a client about its limits. How Envoy shows them: `end_to_end/test_rate_limit_headers.py`."""

from __future__ import annotations

import pytest
from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf.json_format import ParseDict
from pydantic import ValidationError

from mixer_py.errors import CounterStoreError
from mixer_py.ratelimit.headers import MOST_TOLD
from mixer_py.ratelimit.settings import RateLimitSettings

RULES = """\
domain: shop
descriptors:
  - key: tenant
    rate_limit: {unit: minute, requests_per_unit: 3, name: 'of "a" tenant'}
  - key: path
    rate_limit: {unit: hour, requests_per_unit: 2}
  - key: watched
    shadow_mode: true
    rate_limit: {unit: day, requests_per_unit: 0}
  - key: house
    rate_limit: {unlimited: true}
"""


def ask(*keys: str, hits: int = 1) -> rls_pb2.RateLimitRequest:
    descriptors = [{"entries": [{"key": key, "value": "x"}]} for key in keys]
    request = {"domain": "shop", "descriptors": descriptors, "hitsAddend": hits}
    return ParseDict(request, rls_pb2.RateLimitRequest())


def headers(response: rls_pb2.RateLimitResponse) -> dict[str, str]:
    return {header.key: header.value for header in response.response_headers_to_add}


async def test_there_are_none_unless_they_are_asked_for(make_limiter) -> None:
    assert headers(await make_limiter(RULES).should_rate_limit(ask("tenant", hits=9))) == {}


async def test_the_descriptor_with_the_least_remaining_is_told(make_limiter) -> None:
    limiter = make_limiter(RULES, headers={"of": "deciding"})
    answer = await limiter.should_rate_limit(ask("free", "tenant", "path", "house"))
    assert headers(answer) == {"RateLimit-Limit": "2", "RateLimit-Remaining": "1", "RateLimit-Reset": "2800"}


async def test_of_several_that_are_over_the_last_is_told(make_limiter) -> None:
    limiter = make_limiter(RULES, headers={"of": "deciding"})
    answer = await limiter.should_rate_limit(ask("path", "tenant", "watched", hits=9))
    assert headers(answer) == {
        "RateLimit-Limit": "3",
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": "40",
        "Retry-After": "2800",  # the hour's limit is over, too
    }
    assert answer.dynamic_metadata["mixer_limit"] == "shop/tenant"


async def test_their_names_can_be_chosen(make_limiter) -> None:
    names = {"limit": "X-Limit", "remaining": "X-Left", "reset": "X-Reset"}
    limiter = make_limiter(RULES, headers={"of": "deciding", **names})
    assert list(headers(await limiter.should_rate_limit(ask("tenant")))) == ["X-Limit", "X-Left", "X-Reset"]


async def test_every_descriptor_is_told_in_structured_fields(make_limiter) -> None:
    limiter = make_limiter(RULES, headers={"of": "every"})
    answer = await limiter.should_rate_limit(ask("tenant", "free", "path", "house"))
    assert headers(answer) == {
        "RateLimit-Policy": r'"of \"a\" tenant";q=3;w=60, "3";q=2;w=3600',
        "RateLimit": r'"of \"a\" tenant";r=2;t=40, "3";r=1;t=2800',
    }


async def test_what_only_watches_is_no_reason_to_wait(make_limiter) -> None:
    limiter = make_limiter(RULES, headers={"of": "every"})
    assert "Retry-After" not in headers(await limiter.should_rate_limit(ask("watched", hits=5)))


async def test_the_headers_of_one_answer_stay_small(make_limiter) -> None:
    limiter = make_limiter(RULES, headers={"of": "every"})
    answer = headers(await limiter.should_rate_limit(ask(*["tenant"] * 1000)))
    assert answer["RateLimit"].count(";r=") == MOST_TOLD


@pytest.mark.parametrize("of", ["deciding", "every"])
async def test_nothing_is_told_of_a_counter_that_could_not_be_kept(make_limiter, of: str) -> None:
    class Away:
        async def charge(self, charges, *, together=False):
            raise CounterStoreError("away")

        async def close(self) -> None: ...

    limiter = make_limiter(RULES, Away(), "deny", headers={"of": of})
    answer = await limiter.should_rate_limit(ask("tenant"))
    assert answer.overall_code == rls_pb2.RateLimitResponse.OVER_LIMIT
    assert headers(answer) == {"Retry-After": "1"}


@pytest.mark.parametrize("name", ["", "a b", "a:b", "é", "a\r\nb"])
def test_a_name_that_no_header_can_have_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="is no name of a header"):
        RateLimitSettings(headers={"reset": name})

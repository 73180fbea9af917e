"""A look at counters tells what a request would find, and changes nothing."""

from __future__ import annotations

import pytest
from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf.json_format import ParseDict

from mixer_py.errors import CounterStoreError
from mixer_py.ratelimit.explaining.descriptors import parse_descriptor
from mixer_py.ratelimit.explaining.looking import look

RULES = """\
domain: shop
descriptors:
  - key: tenant
    rate_limit: {unit: minute, requests_per_unit: 5}
  - key: bucket
    rate_limit: {unit: minute, requests_per_unit: 60, algorithm: token_bucket, burst: 3}
  - key: house
    rate_limit: {unlimited: true}
"""


def ask(key: str, hits: int) -> rls_pb2.RateLimitRequest:
    descriptor = {"entries": [{"key": key, "value": "a"}], "hitsAddend": hits}
    return ParseDict({"domain": "shop", "descriptors": [descriptor]}, rls_pb2.RateLimitRequest())


async def test_what_is_used_and_what_remains(make_limiter, registry) -> None:
    limiter = make_limiter(RULES)
    await limiter.should_rate_limit(ask("tenant", 2))
    await limiter.should_rate_limit(ask("bucket", 3))
    before = registry.read()
    texts = ["tenant=a", "house=a", "colour=blue", "bucket=a", "tenant=b"]
    for _ in range(2):
        tenant, house, colour, bucket, other = await look(limiter, "shop", [parse_descriptor(text) for text in texts])
        assert tenant == {
            "descriptor": [{"key": "tenant", "value": "a"}],
            "rule": "shop/tenant",
            "algorithm": "fixed_window",
            "window": "1m",
            "limit": 5,
            "burst": 5,
            "lease": 0,
            "used": 2,
            "remaining": 3,
            "over": False,
            "reset_seconds": 40.0,
            "retry_seconds": 0.0,
            "counter": ["shop", "fixed_window/60000000", "tenant", "a"],
        }
        assert house == {"descriptor": [{"key": "house", "value": "a"}], "rule": "shop/house", "unlimited": True}
        assert colour == {"descriptor": [{"key": "colour", "value": "blue"}], "rule": None}
        assert (bucket["used"], bucket["remaining"], bucket["retry_seconds"]) == (3, 0, 1.0)
        assert (other["used"], other["remaining"]) == (0, 5)
    assert registry.read() == before


async def test_an_unknown_domain_has_no_rules(make_limiter) -> None:
    assert (await look(make_limiter(RULES), "bank", [parse_descriptor("tenant=a")]))[0]["rule"] is None


async def test_a_store_that_is_away_cannot_tell(make_limiter) -> None:
    class Away:
        async def charge(self, charges, *, together=False):
            raise CounterStoreError("away")

    with pytest.raises(CounterStoreError):
        await look(make_limiter(RULES, Away(), "allow"), "shop", [parse_descriptor("tenant=a")])

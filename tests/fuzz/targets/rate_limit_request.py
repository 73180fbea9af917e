"""RateLimitRequest: one status a descriptor, and what is limited to nothing is never let through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache

from envoy.extensions.common.ratelimit.v3.ratelimit_pb2 import RateLimitDescriptor
from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from mixer_py.calls import Call
from mixer_py.errors import MixerError
from mixer_py.instruments import FakeClock, Registry
from mixer_py.ratelimit.answering.limiter import Limiter
from mixer_py.ratelimit.rules import Rules
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores.memory import MemoryStore
from mixer_py.services.rate_limit import RateLimitService
from tests.fuzz.target import CASES, run

RULES = """\
domain: shop
descriptors:
  - key: never
    rate_limit: {unit: day, requests_per_unit: 0}
  - key: tenant
    rate_limit: {unit: minute, requests_per_unit: 3, name: tenants}
    descriptors:
      - key: path
        value: /api/*
        rate_limit: {unit: second, requests_per_unit: 2, replaces: [{name: tenants}]}
  - key: bucket
    rate_limit: {unit: hour, requests_per_unit: 4, algorithm: token_bucket, burst: 2}
  - key: sliding
    detailed_metric: true
    rate_limit: {unit: hour, requests_per_unit: 4, algorithm: sliding_window}
  - key: watched
    shadow_mode: true
    rate_limit: {unit: day, requests_per_unit: 0}
  - key: house
    rate_limit: {unlimited: true}
"""
OK, OVER_LIMIT = rls_pb2.RateLimitResponse.OK, rls_pb2.RateLimitResponse.OVER_LIMIT
DOMAIN = "shop"


@cache
def service() -> RateLimitService:
    registry, clock = Registry(), FakeClock()
    settings = RateLimitSettings(negative_hits="always", metadata=True)
    rules = Rules.parse([("rules.yaml", RULES.encode())])
    return RateLimitService(
        Limiter(rules, MemoryStore(clock, registry, 10_000), registry, clock, settings), clock, registry
    )


def check(data: bytes) -> None:
    try:
        request = rls_pb2.RateLimitRequest.FromString(data)
    except DecodeError:
        request = None
    try:
        answer = run(service().should_rate_limit(data, Call()))
    except MixerError as error:
        assert error.grpc_status != 0, "a call that failed has the status OK"
        return
    assert request is not None, "bytes that are no RateLimitRequest were answered"
    response = rls_pb2.RateLimitResponse.FromString(answer)
    if request.domain == DOMAIN:
        assert len(response.statuses) == len(request.descriptors), "one status a descriptor"
    over = any(status.code == OVER_LIMIT for status in response.statuses)
    assert response.overall_code == (OVER_LIMIT if over else OK), "one descriptor over its limit refuses the request"
    for descriptor, status in zip(request.descriptors, response.statuses, strict=False):
        if request.domain == DOMAIN and is_never(descriptor):
            assert status.code == OVER_LIMIT, "what is limited to nothing was let through"


def is_never(descriptor: RateLimitDescriptor) -> bool:
    """Whether this asks for hits of the limit of 0, and brings no limit of its own and no hits back."""
    plain = RateLimitDescriptor.FromString(descriptor.SerializeToString())
    size = plain.ByteSize()
    plain.DiscardUnknownFields()
    hits = plain.hits_addend.value if plain.HasField("hits_addend") else 1
    return (
        [entry.key for entry in plain.entries] == ["never"]
        and not plain.HasField("limit")
        and plain.ByteSize() == size
        and hits > 0
    )


def seeds() -> Iterator[bytes]:
    for keys in (("never",), ("tenant",), ("tenant", "path"), ("bucket",), ("sliding",), ("watched",), ("house",), ()):
        request = rls_pb2.RateLimitRequest(domain=DOMAIN, hits_addend=1)
        for _ in range(2):
            descriptor = request.descriptors.add()
            for key in keys:
                descriptor.entries.add(key=key, value="/api/x")
            descriptor.hits_addend.value = 2
        yield request.SerializeToString()
        request.descriptors[0].limit.requests_per_unit = 1
        request.descriptors[0].limit.unit = 2
        yield request.SerializeToString() + b"\x12\x02\x20\x01"
    for file in sorted(CASES.glob("rate_limit/*/requests.json")):
        for step in json.loads(file.read_text(encoding="utf-8")):
            request = rls_pb2.RateLimitRequest()
            yield json_format.ParseDict(step["request"], request, ignore_unknown_fields=True).SerializeToString()

"""Counters in a real Valkey, through a running mixer: shared, kept over reloads and takeovers, and away."""

from __future__ import annotations

import pytest
from envoy.service.ratelimit.v3 import rls_pb2

from tests.end_to_end.conftest import settings
from tests.parts.grpc_client import connect
from tests.parts.valkey import Valkey

pytestmark = [pytest.mark.valkey, pytest.mark.chdb]


def limit_request(tenant: str) -> rls_pb2.RateLimitRequest:
    request = rls_pb2.RateLimitRequest(domain="mesh")
    descriptor = request.descriptors.add()
    for key, value in (("tenant", tenant), ("service", "reviews")):
        descriptor.entries.add(key=key, value=value)
    return request


def test_counters_are_where_the_configuration_says(make_mixer, programs, ports) -> None:
    first, second = Valkey(programs, ports), Valkey(programs, ports)
    mixer = make_mixer(rate_limit={"store": first.uri, "timeout": "5s"})
    mixer.start()
    with connect(mixer.address) as client:
        codes = [client.limit(limit_request("acme")).overall_code for _ in range(4)]
        assert codes == [rls_pb2.RateLimitResponse.OK] * 3 + [rls_pb2.RateLimitResponse.OVER_LIMIT]
        assert first.ask("DBSIZE") == b":1\r\n"
        mixer.reload(
            lambda: mixer.configure(
                settings(mixer.folder, rate_limit={"store": f"unix://{second.socket}", "timeout": "5s"})
            )
        )
        assert client.limit(limit_request("acme")).statuses[0].limit_remaining == 2
        assert (first.ask("DBSIZE"), second.ask("DBSIZE")) == (b":1\r\n", b":1\r\n")

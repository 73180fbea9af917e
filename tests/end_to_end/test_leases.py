"""Leases through a running mixer over a real Valkey: answered without it, shown at /rlconfig, given back at the end."""

from __future__ import annotations

import json
import signal

import pytest
from envoy.service.ratelimit.v3 import rls_pb2

from tests.end_to_end.conftest import NO_ROWS
from tests.parts.grpc_client import connect
from tests.parts.mixer_process import eventually
from tests.parts.valkey import Valkey

pytestmark = pytest.mark.valkey
LIMITS = """domain: mesh
descriptors:
  - key: tenant
    rate_limit: {unit: year, requests_per_unit: 1000, lease: 100}
"""


def limit_request() -> rls_pb2.RateLimitRequest:
    request = rls_pb2.RateLimitRequest(domain="mesh")
    request.descriptors.add().entries.add(key="tenant", value="acme")
    return request


def test_a_worker_answers_from_its_lease_and_gives_the_rest_back_when_it_is_drained(
    make_mixer, programs, ports
) -> None:
    valkey = Valkey(programs, ports)
    mixer = make_mixer(telemetry=NO_ROWS, rate_limit={"store": valkey.uri, "timeout": "5s"})
    mixer.write("limits.yaml", LIMITS)
    running = mixer.start()
    (rule,) = json.loads(mixer.get("/rlconfig").body)["limits"]
    assert rule["lease_bounds"]["over_admission"] == {"each_worker": 0, "at_most": 0}
    with connect(mixer.address) as client:
        assert client.limit(limit_request()).statuses[0].limit_remaining == 999
        eventually(lambda: mixer.metric("mixer_leased_hits_total", fate="taken") or None, "a lease")
        remaining = [client.limit(limit_request()).statuses[0].limit_remaining for _ in range(20)]
    assert remaining == list(range(998, 978, -1))
    assert mixer.metric("mixer_lease_answers_total", source="lease") == 20
    assert mixer.metric("mixer_lease_answers_total", source="store") == 1
    running.signal(signal.SIGTERM)
    assert running.wait(60) == 0

    mixer.start()
    with connect(mixer.address) as client:
        assert client.limit(limit_request()).statuses[0].limit_remaining == 978

"""What health checkers and readiness probes are told, with a real Valkey that is killed and comes back."""

from __future__ import annotations

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.parts.mixer_process import Mixer, eventually
from tests.parts.valkey import Valkey

pytestmark = pytest.mark.valkey

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
LIMITS = ("ratelimit", "envoy.service.ratelimit.v3.RateLimitService")
OTHERS = ("", "envoy.service.auth.v3.Authorization")
RULES = "domain: shop\ndescriptors: [{key: tenant, rate_limit: {unit: day, requests_per_unit: 5}}]\n"


def told(mixer: Mixer) -> dict[str, int]:
    with grpc.insecure_channel(mixer.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        return {
            name: check(health_pb2.HealthCheckRequest(service=name), timeout=60).status for name in (*LIMITS, *OTHERS)
        }


def everywhere(limits: int) -> dict[str, int]:
    return dict.fromkeys(LIMITS, limits) | dict.fromkeys(OTHERS, SERVING)


def make(programs, ports, folder, valkey: Valkey, **settings: object) -> Mixer:
    mixer = Mixer(programs, ports, folder)
    mixer.write("limits.yaml", RULES)
    mixer.configure({"rate_limit": {"config": ["limits.yaml"], "store": valkey.uri, "timeout": "10s", **settings}})
    mixer.start()
    return mixer


def test_a_store_that_is_away_makes_limits_not_serving_where_that_is_set(programs, ports, tmp_path):
    valkey = Valkey(programs, ports)
    mixer = make(programs, ports, tmp_path, valkey, unhealthy_without_store=True)
    assert told(mixer) == everywhere(SERVING)
    valkey.kill()
    eventually(lambda: told(mixer) == everywhere(NOT_SERVING), "NOT_SERVING without its store")
    eventually(lambda: mixer.get("/healthz/ready").status == 503, "not ready without its store")
    assert b"the counter store is away" in mixer.get("/healthz/ready").body
    assert mixer.metric("mixer_unhealthy_workers") == 1
    valkey.start()
    eventually(lambda: told(mixer) == everywhere(SERVING), "SERVING again")
    eventually(lambda: mixer.get("/healthz/ready").status == 200, "ready again")
    valkey.kill()
    eventually(lambda: told(mixer) == everywhere(NOT_SERVING), "NOT_SERVING once more")
    without = {"config": ["limits.yaml"], "store": valkey.uri, "timeout": "10s", "unhealthy_without_store": False}
    mixer.reload(lambda: mixer.configure({"rate_limit": without}))
    eventually(lambda: told(mixer) == everywhere(SERVING), "SERVING where the store does not matter")


def test_it_does_not_where_it_is_not_set(programs, ports, tmp_path):
    valkey = Valkey(programs, ports)
    mixer = make(programs, ports, tmp_path, valkey)
    valkey.kill()
    eventually(lambda: mixer.metric("mixer_counter_store_up") == 0, "the store is away")
    assert told(mixer) == everywhere(SERVING)
    assert mixer.get("/healthz/ready").status == 200

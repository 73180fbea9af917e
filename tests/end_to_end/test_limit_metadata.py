"""What limits say of themselves (`metadata`) reaches Envoy, which can act on it: here it tells the client.

The limits are two models in quota mode: a request passes as long as one of them has hits left, and the answer says
which.
"""

from __future__ import annotations

import pytest

from tests.parts.envoy_proxy import Bootstrap, EnvoyProxy, manager

pytestmark = pytest.mark.envoy

PER_ROUTE = "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute"
LIMITS = """
domain: models
descriptors:
  - key: model
    value: large
    quota_mode: true
    metadata: {route: {to: large}}
    rate_limit: {unit: year, requests_per_unit: 1}
  - key: model
    value: small
    quota_mode: true
    metadata: {route: {to: small}}
    rate_limit: {unit: year, requests_per_unit: 2}
"""


def add_route(bootstrap: Bootstrap) -> None:
    limits = [
        {"actions": [{"generic_key": {"descriptor_key": "model", "descriptor_value": model}}]}
        for model in ("large", "small")
    ]
    told = {"key": "x-route", "value": "%DYNAMIC_METADATA(envoy.filters.http.ratelimit:metadata:route:to)%"}
    route = {
        "match": {"path": "/ask"},
        "route": {"cluster": "reviews", "rate_limits": limits},
        "typed_per_filter_config": {"envoy.filters.http.ratelimit": {"@type": PER_ROUTE, "domain": "models"}},
        "response_headers_to_add": [{"header": told}],
    }
    manager(bootstrap)["route_config"]["virtual_hosts"][0]["routes"].insert(0, route)


@pytest.fixture
def envoy(make_mixer, make_envoy) -> EnvoyProxy:
    mixer = make_mixer()
    mixer.write("limits.yaml", LIMITS)
    limits = {"config": ["limits.yaml"], "metadata": True}
    mixer.configure({"policy": {"bundles": ["policy"]}, "rate_limit": limits})
    mixer.start()
    envoy: EnvoyProxy = make_envoy(mixer)
    envoy.start(edit=add_route)
    return envoy


def test_the_first_model_with_hits_left_is_named_to_envoy(envoy):
    answers = [envoy.request("/ask") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert [answer.header("x-route") for answer in answers[:2]] == ["large", "small"]

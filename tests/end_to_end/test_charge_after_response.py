"""What a response cost, bytes or tokens that it names in a header, is charged when it has ended.

Envoy asks twice: before the request with no hits, which only looks, and after it with hits from the response
(`apply_on_stream_done`, envoy/config/route/v3/route_components.proto). Both stand in the filter's own configuration of
the route: Envoy ignores the hits of limits that stand in the route itself. Before 1.40 it cannot read a response
header there, so a filter turns the header into metadata.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.end_to_end.conftest import NO_ROWS
from tests.parts.envoy_proxy import Bootstrap, EnvoyProxy, manager
from tests.parts.http_client import Response
from tests.parts.mixer_process import eventually

pytestmark = pytest.mark.envoy

PER_ROUTE = "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute"
LIMITS = """
domain: mesh
descriptors:
  - key: tokens_of
    rate_limit: {unit: day, requests_per_unit: 100}
  - key: bytes_of
    rate_limit: {unit: day, requests_per_unit: 1000000, algorithm: token_bucket, overdraw: true}
"""


def charge(key: str, hits: str) -> list[dict[str, Any]]:
    """The two limits of a route that charges a tenant: a look before, and `hits` afterwards."""
    actions = [{"request_headers": {"header_name": "x-tenant", "descriptor_key": key}}]
    return [
        {"actions": actions, "hits_addend": {"number": 0}},
        {"actions": actions, "hits_addend": {"format": hits}, "apply_on_stream_done": True},
    ]


HEADER_TO_METADATA = {
    "name": "envoy.filters.http.header_to_metadata",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config",
        "response_rules": [
            {
                "header": "x-tokens",
                "on_header_present": {"metadata_namespace": "tokens", "key": "used", "type": "NUMBER"},
            }
        ],
    },
}


def add_routes(bootstrap: Bootstrap) -> None:
    manager(bootstrap)["http_filters"].insert(-1, HEADER_TO_METADATA)
    routes = manager(bootstrap)["route_config"]["virtual_hosts"][0]["routes"]
    for path, limits in (
        ("/answer", charge("tokens_of", "%DYNAMIC_METADATA(tokens:used)%")),
        ("/download", charge("bytes_of", "%BYTES_SENT%")),
    ):
        route = {
            "match": {"path": path},
            "route": {"cluster": "reviews"},
            "typed_per_filter_config": {"envoy.filters.http.ratelimit": {"@type": PER_ROUTE, "rate_limits": limits}},
            "response_headers_to_add": [{"header": {"key": "x-tokens", "value": "%REQ(x-cost)%"}}],
        }
        routes.insert(0, route)


@pytest.fixture
def envoy(make_mixer, make_envoy) -> EnvoyProxy:
    mixer = make_mixer(telemetry=NO_ROWS)
    mixer.write("limits.yaml", LIMITS)
    mixer.start()
    envoy: EnvoyProxy = make_envoy(mixer)
    envoy.start(edit=add_routes)
    return envoy


def get(envoy: EnvoyProxy, path: str, tenant: str, cost: int = 0) -> Response:
    return envoy.request(path, headers=[("x-tenant", tenant), ("x-cost", str(cost))])


def left(envoy: EnvoyProxy, path: str, tenant: str) -> int:
    """What a request that costs nothing is told."""
    return int(get(envoy, path, tenant).header("x-ratelimit-remaining"))


def test_tokens_that_the_response_names_are_charged_when_it_has_ended(envoy):
    assert get(envoy, "/answer", "acme", 70).status == 200
    eventually(lambda: left(envoy, "/answer", "acme") == 30, "70 of 100 tokens are charged")
    assert get(envoy, "/answer", "acme", 70).status == 200  # there was something left when it came
    eventually(lambda: get(envoy, "/answer", "acme").status == 429, "140 of 100 tokens are charged")
    assert get(envoy, "/answer", "umbrella", 1).status == 200


def test_bytes_that_were_sent_are_charged(envoy):
    size = len(get(envoy, "/download", "acme").body)
    eventually(lambda: left(envoy, "/download", "acme") <= 1_000_000 - size, "the bytes of the first response")
    before = left(envoy, "/download", "acme")
    get(envoy, "/download", "acme")
    eventually(lambda: left(envoy, "/download", "acme") <= before - size, "the bytes of another one")

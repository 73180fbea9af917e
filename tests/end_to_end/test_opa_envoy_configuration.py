"""Behind the Envoy configuration that opa-envoy-plugin documents, with nothing but the address changed."""

from __future__ import annotations

import pytest

from tests.end_to_end.conftest import NO_ROWS

pytestmark = pytest.mark.envoy

POLICY = """
package istio.authz

import rego.v1

default allow := false

allow if input.parsed_body.name == "right"
"""


EXTENSIONS = "type.googleapis.com/envoy.extensions.filters"


def with_google_grpc(mixer_port: int, upstream_port: int) -> dict:
    """The filter as that plugin's documentation has it: google_grpc, a small timeout, a body of 8 KiB."""
    check = {
        "@type": f"{EXTENSIONS}.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "with_request_body": {"max_request_bytes": 8192, "allow_partial_message": True},
        "failure_mode_allow": False,
        "grpc_service": {
            "google_grpc": {"target_uri": f"127.0.0.1:{mixer_port}", "stat_prefix": "ext_authz"},
            "timeout": "20s",
        },
    }
    router = {"@type": f"{EXTENSIONS}.http.router.v3.Router"}
    manager = {
        "@type": f"{EXTENSIONS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress_http",
        "http_filters": [
            {"name": "envoy.filters.http.ext_authz", "typed_config": check},
            {"name": "envoy.filters.http.router", "typed_config": router},
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "backend",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "up"}}],
                }
            ]
        },
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": upstream_port}}
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "http",
                    "filter_chains": [
                        {
                            "filters": [
                                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "up",
                    "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": "up",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
                    },
                }
            ],
        }
    }


def test_a_boolean_decision_on_a_parsed_body(make_mixer, make_envoy, upstream):
    mixer = make_mixer(POLICY, telemetry=NO_ROWS, policy={"decision": "istio/authz/allow"})
    mixer.start()
    envoy = make_envoy(mixer)
    envoy.start(with_google_grpc(mixer.grpc, upstream.port))
    as_json = [("content-type", "application/json")]
    allowed = envoy.request("/", method="POST", headers=as_json, body=b'{"name": "right"}')
    denied = envoy.request("/", method="POST", headers=as_json, body=b'{"name": "wrong"}')
    broken = envoy.request("/", method="POST", headers=as_json, body=b'{"name"')
    assert [allowed.status, denied.status, broken.status] == [200, 403, 400]
    assert allowed.echo["body"] == '{"name": "right"}'

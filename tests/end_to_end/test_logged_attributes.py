"""What a real Envoy's log tells besides verdict and limit: times, sizes, retries, tags, gRPC, tokens, dry runs."""

from __future__ import annotations

import struct
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from mixer_py.queries.tail import nanoseconds
from tests.parts.envoy_proxy import Bootstrap, EnvoyProxy, manager
from tests.parts.mixer_process import Mixer, eventually

pytestmark = [pytest.mark.envoy, pytest.mark.chdb]

SERVER = "spiffe://mesh.test/ns/shop/sa/reviews"
STATS = "envoy.filters.http.grpc_stats"
FILTERS = "type.googleapis.com/envoy.extensions.filters.http"
ISSUER = "https://id.test"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CLAIMS = {
    "iss": ISSUER, "sub": "ann", "aud": ["shop", "bank"], "azp": "web", "groups": ["editors", "readers"],
    "exp": 4102444800, "org": {"name": "acme\x1b[31m"}, "email": "ann@private.test", "access_token": "s3cret",
}  # fmt: skip
LABELS = {"app": "edge", "version": "v2", "team": "shop"}
NODE = {
    "NAME": "edge-v2-abc", "NAMESPACE": "gateways", "WORKLOAD_NAME": "edge-v2", "SERVICE_ACCOUNT": "edge-sa",
    "APP_CONTAINERS": "edge,side", "ISTIO_VERSION": "1.30.0", "LABELS": LABELS,
}  # fmt: skip
SHOWN = ["sub", "groups", "exp", "org", "access_token"]


def tell_more(bootstrap: Bootstrap) -> None:
    """Counts messages of gRPC, tags entries, repeats what fails, and logs the start of requests as well."""
    bootstrap["node"]["metadata"] = NODE
    connection_manager = manager(bootstrap)
    config = "type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig"
    stats = {"@type": config, "emit_filter_state": True}
    connection_manager["http_filters"][:0] = [
        {"name": STATS, "typed_config": stats},
        check_tokens(),
        try_out("ALLOW", "acme"),
        try_out("DENY", "umbrella", "istio_dry_run_deny_"),
    ]
    options = {"flush_access_log_on_new_request": True, "access_log_flush_interval": "0.2s"}
    connection_manager["access_log_options"] = options
    common = connection_manager["access_log"][0]["typed_config"]["common_config"]
    common["filter_state_objects_to_log"] = [STATS, "upstream_peer"]
    common["custom_tags"] = [
        {"tag": "api.service", "literal": {"value": "catalogue"}},
        {"tag": "destination.principal", "literal": {"value": SERVER}},
        {"tag": "tenant", "request_header": {"name": "x-tenant"}},
    ]
    for route in connection_manager["route_config"]["virtual_hosts"][0]["routes"]:
        route["route"]["retry_policy"] = {"retry_on": "reset", "num_retries": 1}


def check_tokens() -> dict[str, Any]:
    """Envoy's filter that checks tokens, and keeps what they claim for the log."""
    jwks = f'{{"keys": [{RSAAlgorithm.to_jwk(KEY.public_key())}]}}'
    provider = {"issuer": ISSUER, "local_jwks": {"inline_string": jwks}, "payload_in_metadata": "payload"}
    either = [{"provider_name": "shop"}, {"allow_missing": {}}]
    rule = {"match": {"prefix": "/"}, "requires": {"requires_any": {"requirements": either}}}
    config = {"@type": f"{FILTERS}.jwt_authn.v3.JwtAuthentication", "providers": {"shop": provider}, "rules": [rule]}
    return {"name": "envoy.filters.http.jwt_authn", "typed_config": config}


def try_out(action: str, tenant: str, prefix: str = "") -> dict[str, Any]:
    """An RBAC filter whose rule about a tenant is only tried out."""
    header = {"name": "x-tenant", "string_match": {"exact": tenant}}
    policy = {"permissions": [{"any": True}], "principals": [{"header": header}]}
    config = {
        "@type": f"{FILTERS}.rbac.v3.RBAC",
        "shadow_rules": {"action": action, "policies": {f"{action.lower()}-{tenant}": policy}},
        "shadow_rules_stat_prefix": prefix,
    }
    return {"name": "envoy.filters.http.rbac", "typed_config": config}


@pytest.fixture(scope="module")
def mixer(make_module_mixer) -> Mixer:
    mixer = make_module_mixer(telemetry={"claims": SHOWN})
    mixer.start()
    return mixer


@pytest.fixture(scope="module")
def envoy(make_module_envoy, mixer) -> EnvoyProxy:
    envoy = make_module_envoy(mixer)
    envoy.start(edit=tell_more)
    return envoy


def test_times_stand_in_the_order_in_which_they_pass(envoy: EnvoyProxy, mixer: Mixer):
    row = mixer.row(envoy.request("/open", method="POST", body=b"x" * 500).header("x-request-id"))
    chain = [
        int(row[f"time_to_{point}"])
        for point in ("first_upstream_tx_byte", "first_upstream_rx_byte", "first_downstream_tx_byte",
                      "last_downstream_tx_byte")
    ]  # fmt: skip
    assert chain == sorted(chain)
    assert 0 < chain[0] <= chain[-1] <= int(row["response_duration"])
    assert int(row["time_to_last_rx_byte"]) > 0
    assert int(row["request_size"]) == 500
    assert int(row["request_headers_bytes"]) > 0
    assert int(row["upstream_wire_bytes_sent"]) > 500
    assert int(row["upstream_wire_bytes_received"]) > int(row["response_size"])
    assert (row["upstream_ip"], row["upstream_request_attempt_count"]) == ("127.0.0.1", 1)


def test_what_is_not_reached_has_no_time_and_retries_are_counted(envoy: EnvoyProxy, mixer: Mixer):
    row = mixer.row(envoy.request("/break").header("x-request-id"))
    assert (row["response_code"], row["upstream_request_attempt_count"]) == (503, 2)
    assert row["time_to_first_upstream_rx_byte"] is None
    assert "URX" in row["response_flags"]


def test_custom_tags_are_kept_and_fill_the_columns_that_they_are_named_after(envoy: EnvoyProxy, mixer: Mixer):
    row = mixer.row(envoy.request("/open", headers=[("x-tenant", "acme")]).header("x-request-id"))
    assert row["custom_tags"] == {"api.service": "catalogue", "destination.principal": SERVER, "tenant": "acme"}
    assert (row["api_service"], row["destination_principal"]) == ("catalogue", SERVER)
    assert (row["destination_namespace"], row["destination_workload_name"]) == ("shop", "reviews")
    assert mixer.metric("istio_requests_total", destination_principal=SERVER) > 0


def test_messages_of_grpc_are_counted(envoy: EnvoyProxy, mixer: Mixer):
    frames = b"".join(struct.pack(">BI", 0, 5) + b"hello" for _ in range(3))
    headers = [("content-type", "application/grpc"), ("te", "trailers")]
    row = mixer.row(envoy.request("/open", method="POST", headers=headers, body=frames).header("x-request-id"))
    assert (int(row["request_messages"]), int(row["response_messages"]), row["context_protocol"]) == (3, 0, "grpc")
    assert mixer.metric("istio_request_messages_total", request_protocol="grpc") == 3


def test_the_start_of_a_request_is_counted_and_is_no_row(envoy: EnvoyProxy, mixer: Mixer):
    request_id = envoy.request("/open").header("x-request-id")
    mixer.row(request_id)
    eventually(lambda: mixer.metric("mixer_access_log_unfinished_total", type="DownstreamStart") >= 1, "a start")
    assert len(mixer.rows(f"SELECT 1 FROM requests WHERE request_id = '{request_id}'")) == 1


def test_a_request_that_goes_on_is_counted_at_intervals_and_is_one_row_with_all_that_it_was(
    envoy: EnvoyProxy, mixer: Mixer
):
    request_id = envoy.request("/slow", method="POST", body=b"x" * 500).header("x-request-id")
    row = mixer.row(request_id)
    eventually(lambda: mixer.metric("mixer_access_log_unfinished_total", type="DownstreamPeriodic") >= 1, "reports")
    assert len(mixer.rows(f"SELECT 1 FROM requests WHERE request_id = '{request_id}'")) == 1
    assert (row["response_code"], int(row["request_size"])) == (200, 500)
    assert int(row["response_duration"]) >= 1_000_000  # the upstream's second, of which each report had a part


def test_a_token_tells_its_caller_and_only_the_claims_that_are_named(envoy: EnvoyProxy, mixer: Mixer):
    token = jwt.encode(CLAIMS, KEY, "RS256")
    row = mixer.row(envoy.request("/open", headers=[("authorization", f"Bearer {token}")]).header("x-request-id"))
    assert row["request_auth_principal"] == f"{ISSUER}/ann"
    assert (row["request_auth_audiences"], row["request_auth_presenter"]) == ("shop,bank", "web")
    assert row["request_auth_claims"] == {
        "sub": "ann", "groups": "editors,readers", "exp": "4102444800", "org": '{"name":"acme\\u001b[31m"}',
        "access_token": "***",
    }  # fmt: skip
    assert "private" not in str(row)
    assert mixer.row(envoy.request("/open").header("x-request-id"))["request_auth_claims"] == {}


@pytest.mark.parametrize(
    ("tenant", "result", "policy"),
    [("acme", "allowed", "allow-acme"), ("other", "denied", ""), ("umbrella", "denied", "deny-umbrella")],
)
def test_a_dry_run_of_rbac_tells_what_it_would_have_done(envoy: EnvoyProxy, mixer: Mixer, tenant, result, policy):
    row = mixer.row(envoy.request("/open", headers=[("x-tenant", tenant)]).header("x-request-id"))
    assert row["response_code"] == 200
    assert (row["rbac_permissive_response_code"], row["rbac_permissive_effective_policy_id"]) == (result, policy)


def test_a_response_has_a_time_where_there_was_one(envoy: EnvoyProxy, mixer: Mixer):
    row = mixer.row(envoy.request("/open").header("x-request-id"))
    wanted = nanoseconds(row["timestamp"]) + int(row["time_to_first_upstream_rx_byte"]) * 1000
    assert nanoseconds(row["response_time"]) == wanted


def test_the_node_tells_its_workload_to_the_last_label(envoy: EnvoyProxy, mixer: Mixer):
    row = mixer.row(envoy.request("/open").header("x-request-id"))
    wanted = {
        "source_labels": LABELS, "source_app": "edge", "source_uid": "kubernetes://edge-v2-abc.gateways",
        "source_workload_uid": "istio://gateways/workloads/edge-v2", "source_serviceAccount": "edge-sa",
        "context_proxy_version": "1.30.0", "destination_labels": {}, "destination_container_name": "",
    }  # fmt: skip
    assert {name: row[name] for name in wanted} == wanted


def report_from_inside(bootstrap: Bootstrap) -> None:
    """The proxy beside the server: its log has Istio's name for it, and its node is the server's."""
    bootstrap["node"]["metadata"] = NODE
    manager(bootstrap)["access_log"][0]["typed_config"]["common_config"]["log_name"] = "inbound"


def test_the_node_of_a_server_tells_the_other_side(make_envoy, mixer: Mixer):
    envoy = make_envoy(mixer)
    envoy.start(edit=report_from_inside)
    row = mixer.row(envoy.request("/open").header("x-request-id"))
    wanted = {
        "reporter": "destination", "destination_labels": LABELS, "destination_app": "edge",
        "destination_uid": "kubernetes://edge-v2-abc.gateways", "destination_serviceAccount": "edge-sa",
        "destination_container_name": "edge,side", "source_labels": {}, "source_uid": "",
    }  # fmt: skip
    assert {name: row[name] for name in wanted} == wanted

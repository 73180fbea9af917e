"""What Envoy would send: a CheckRequest, RateLimitRequests, and access-log messages of some entries each."""

from __future__ import annotations

import base64

from envoy.data.accesslog.v3.accesslog_pb2 import HTTPAccessLogEntry
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitRequest

CHECK_METHOD = "/envoy.service.auth.v3.Authorization/Check"
RATE_LIMIT_METHOD = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
ACCESS_LOG_METHOD = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
ENTRIES_PER_MESSAGE = 16

_DOWNSTREAM = "spiffe://cluster.local/ns/default/sa/productpage"
_UPSTREAM = "spiffe://cluster.local/ns/default/sa/reviews"


def check_request() -> bytes:
    """A GET by bob, whom the tutorial's policy lets through, with the headers a browser behind a sidecar sends."""
    request = CheckRequest()
    attributes = request.attributes
    attributes.source.address.socket_address.address = "10.0.0.7"
    attributes.source.address.socket_address.port_value = 43210
    attributes.source.principal = _DOWNSTREAM
    attributes.destination.address.socket_address.address = "10.0.0.9"
    attributes.destination.address.socket_address.port_value = 9080
    attributes.destination.principal = _UPSTREAM
    attributes.request.time.seconds = 1_790_000_000
    http = attributes.request.http
    http.id = "14359212783218421"
    http.method = "GET"
    http.path = "/reviews/7?page=2"
    http.host = "reviews.default.svc.cluster.local:9080"
    http.scheme = "http"
    http.protocol = "HTTP/1.1"
    http.size = -1
    http.headers.update(
        {
            ":authority": "reviews.default.svc.cluster.local:9080",
            ":method": "GET",
            ":path": "/reviews/7?page=2",
            ":scheme": "http",
            "accept": "*/*",
            "accept-encoding": "gzip, deflate",
            "authorization": "Basic " + base64.b64encode(b"bob:password").decode(),
            "user-agent": "python-requests/2.34.2",
            "x-forwarded-proto": "http",
            "x-request-id": "8a7d7a4e-0d1c-9d0e-8b7c-0c5d3c1f2a10",
            "x-tenant": "acme",
        }
    )
    return request.SerializeToString()


def rate_limit_request(descriptors: int, number: int = 0) -> bytes:
    """A request of caller `number` with descriptors of two entries each: its tenant, and a service."""
    request = RateLimitRequest(domain="mesh")
    for index in range(descriptors):
        descriptor = request.descriptors.add()
        descriptor.entries.add(key="tenant", value=f"acme-{number}")
        descriptor.entries.add(key="service", value=f"service-{index}")
    return request.SerializeToString()


def access_log_message(first: int) -> bytes:
    """`ENTRIES_PER_MESSAGE` entries, numbered from `first`, as the shipped Envoy configuration sends them."""
    message = StreamAccessLogsMessage()
    if first == 0:  # Envoy says who it is once a stream
        message.identifier.log_name = "outbound"
        message.identifier.node.id = "edge-1"
        message.identifier.node.cluster = "edge"
    for number in range(first, first + ENTRIES_PER_MESSAGE):
        fill(message.http_logs.log_entry.add(), number)
    return message.SerializeToString()


def fill(entry: HTTPAccessLogEntry, number: int) -> None:
    common = entry.common_properties
    common.start_time.seconds = 1_790_000_000 + number // 1000
    common.start_time.nanos = number % 1000 * 1_000_000
    common.time_to_last_rx_byte.nanos = 200_000
    common.time_to_first_upstream_tx_byte.nanos = 900_000
    common.time_to_first_upstream_rx_byte.nanos = 4_000_000 + number % 50 * 100_000
    common.time_to_last_downstream_tx_byte.nanos = 5_000_000 + number % 50 * 100_000
    for address, host, port in (
        (common.downstream_remote_address, "10.0.0.7", 43210),
        (common.downstream_local_address, "10.0.0.9", 9080),
        (common.upstream_remote_address, "10.0.1.9", 9080),
    ):
        address.socket_address.address = host
        address.socket_address.port_value = port
    common.upstream_cluster = f"outbound|9080||reviews-{number % 8}.default.svc.cluster.local"
    common.route_name = "reviews"
    common.tls_properties.peer_certificate_properties.subject_alt_name.add().uri = _DOWNSTREAM
    check = common.metadata.filter_metadata["envoy.filters.http.ext_authz"]
    check.update(
        {
            "decision_id": f"6f1c2a7e-5b1d-4a59-9c3e-{number:012d}",
            "mixer_verdict": "allow",
            "mixer_revision": "4be1c0ffee00",
            "mixer_decision": "envoy/authz/allow",
            "mixer_rule": "data.envoy.authz.allowed",
            "mixer_reasons": "",
        }
    )
    limit = common.metadata.filter_metadata["envoy.filters.http.ratelimit"]
    limit.update({"mixer_limit": "mesh.tenant_acme.service", "mixer_code": "OK", "mixer_remaining": 41 + number % 9})
    request, response = entry.request, entry.response
    request.request_method = 1
    request.scheme = "http"
    request.authority = "reviews.default.svc.cluster.local:9080"
    request.path = f"/reviews/{number % 200}?page=2"
    request.user_agent = "python-requests/2.34.2"
    request.request_id = f"8a7d7a4e-0d1c-9d0e-8b7c-{number:012d}"
    request.request_headers_bytes = 412
    request.request_headers["x-tenant"] = "acme"
    response.response_code.value = 200 if number % 20 else 503
    response.response_headers_bytes = 180
    response.response_body_bytes = 1_400 + number % 300
    response.response_code_details = "via_upstream"
    response.response_headers["content-type"] = "application/json"
    entry.protocol_version = HTTPAccessLogEntry.HTTPVersion.HTTP11

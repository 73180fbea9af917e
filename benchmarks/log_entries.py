"""Log entries in the shapes that a mesh sends: allowed, denied, limited, failed, gRPC with counts, mutual TLS, TCP.

Not for: sending them (`log_load.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from envoy.config.core.v3.base_pb2 import RequestMethod
from envoy.data.accesslog.v3.accesslog_pb2 import (
    AccessLogCommon,
    AccessLogType,
    HTTPAccessLogEntry,
    ResponseFlags,
    TCPAccessLogEntry,
)
from envoy.extensions.filters.http.grpc_stats.v3.config_pb2 import FilterObject
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage
from google.protobuf.struct_pb2 import Struct
from payloads import ENTRIES_PER_MESSAGE, fill

_DOWNSTREAM = "spiffe://cluster.local/ns/default/sa/productpage"
_OWN = "spiffe://cluster.local/ns/default/sa/reviews"
_PEER = {
    "name": "productpage-v1-5c9", "namespace": "default", "workload": "productpage-v1", "cluster": "Kubernetes",
    "service": "productpage", "revision": "v1", "app": "productpage", "version": "v1",
}  # fmt: skip


def http_message(first: int, label_sets: int) -> bytes:
    """HTTP entries of every shape, numbered from `first`, with so many sets of Istio's labels in turn."""
    message = StreamAccessLogsMessage()
    for number in range(first, first + ENTRIES_PER_MESSAGE):
        entry = message.http_logs.log_entry.add()
        fill(entry, number)
        # A shape goes with its service, so that shapes make no more label sets than were asked for.
        service = number % label_sets
        entry.common_properties.upstream_cluster = f"outbound|9080||reviews-{service}.default.svc.cluster.local"
        entry.response.response_code.value = 200
        _SHAPES[service % len(_SHAPES)](entry)
    return message.SerializeToString()


def tcp_message(first: int, label_sets: int) -> bytes:
    """Reports about TCP connections: opened, at intervals, closed; each connection is reported on four times."""
    message = StreamAccessLogsMessage()
    for number in range(first, first + ENTRIES_PER_MESSAGE):
        _fill_tcp(message.tcp_logs.log_entry.add(), number, number // 4 % label_sets)
    return message.SerializeToString()


def identified(message: bytes, stream: int) -> bytes:
    """The message as a stream's first, which says who sends."""
    identifier = StreamAccessLogsMessage()
    identifier.identifier.log_name = "outbound"
    identifier.identifier.node.id = f"sidecar~10.0.0.7~edge-{stream}.default~default.svc.cluster.local"
    identifier.identifier.node.cluster = "edge"
    return identifier.SerializeToString() + message


def _allowed(_entry: HTTPAccessLogEntry) -> None:
    """As it is filled."""


def _denied(entry: HTTPAccessLogEntry) -> None:
    common = entry.common_properties
    common.metadata.filter_metadata["envoy.filters.http.ext_authz"].update(
        {"mixer_verdict": "deny", "mixer_reasons": "method not allowed; no such role", "mixer_rule": "default"}
    )
    del common.metadata.filter_metadata["envoy.filters.http.ratelimit"]
    common.ClearField("upstream_remote_address")
    common.response_flags.unauthorized_details.reason = ResponseFlags.Unauthorized.Reason.EXTERNAL_SERVICE
    entry.response.response_code.value = 403
    entry.response.response_code_details = "ext_authz_denied"


def _limited(entry: HTTPAccessLogEntry) -> None:
    entry.common_properties.metadata.filter_metadata["envoy.filters.http.ratelimit"].update(
        {"mixer_code": "OVER_LIMIT", "mixer_remaining": 0}
    )
    entry.common_properties.response_flags.rate_limited = True
    entry.response.response_code.value = 429
    entry.response.response_code_details = "request_rate_limited"


def _failed(entry: HTTPAccessLogEntry) -> None:
    common = entry.common_properties
    common.response_flags.upstream_connection_failure = True
    common.response_flags.upstream_retry_limit_exceeded = True
    common.upstream_transport_failure_reason = "delayed_connect_error:_Connection_refused"
    common.upstream_request_attempt_count = 3
    entry.response.response_code.value = 503
    entry.response.response_code_details = "upstream_reset_before_response_started{connection_failure}"


def _grpc(entry: HTTPAccessLogEntry) -> None:
    counts = FilterObject(request_message_count=3, response_message_count=5)
    entry.common_properties.filter_state_objects["envoy.filters.http.grpc_stats"].Pack(counts)
    entry.protocol_version = HTTPAccessLogEntry.HTTPVersion.HTTP2
    entry.request.request_method = RequestMethod.POST
    entry.request.path = "/shop.v1.Reviews/List"
    entry.request.request_headers["content-type"] = "application/grpc"
    entry.response.response_trailers["grpc-status"] = "0"


def _mutual(entry: HTTPAccessLogEntry) -> None:
    """Between two sidecars of Istio."""
    common = entry.common_properties
    common.tls_properties.local_certificate_properties.subject_alt_name.add().uri = _OWN
    common.tls_properties.tls_version = common.tls_properties.TLSv1_3
    common.tls_properties.tls_sni_hostname = "outbound_.9080_._.reviews.default.svc.cluster.local"
    peer = Struct()
    peer.update(_PEER)
    common.filter_state_objects["upstream_peer"].Pack(peer)
    common.custom_tags["tenant"] = "acme"
    common.upstream_wire_bytes_sent, common.upstream_wire_bytes_received = 510, 1_690


_SHAPES: tuple[Callable[[HTTPAccessLogEntry], None], ...] = (
    _allowed, _allowed, _mutual, _grpc, _allowed, _denied, _limited, _failed,
)  # fmt: skip


def _fill_tcp(entry: TCPAccessLogEntry, number: int, service: int) -> None:
    common: AccessLogCommon = entry.common_properties
    step = number % 4
    common.access_log_type = (
        AccessLogType.TcpUpstreamConnected, AccessLogType.TcpPeriodic, AccessLogType.TcpPeriodic,
        AccessLogType.TcpConnectionEnd,
    )[step]  # fmt: skip
    common.start_time.seconds = 1_790_000_000 + number // 1000
    common.stream_id = f"6f1c2a7e-5b1d-4a59-9c3e-{number // 4:012d}"
    common.upstream_cluster = f"outbound|5432||store-{service}.default.svc.cluster.local"
    for address, host, port in (
        (common.downstream_remote_address, "10.0.0.7", 43210),
        (common.downstream_local_address, "10.0.0.9", 5432),
        (common.upstream_remote_address, "10.0.1.9", 5432),
    ):
        address.socket_address.address = host
        address.socket_address.port_value = port
    common.tls_properties.peer_certificate_properties.subject_alt_name.add().uri = _DOWNSTREAM
    if step == 3:
        common.duration.seconds = 12
    entry.connection_properties.received_bytes = 400 * (step + 1)
    entry.connection_properties.sent_bytes = 9_000 * (step + 1)

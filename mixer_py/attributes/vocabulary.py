"""The vocabulary: every attribute with its type, its meaning and the place where each source holds it.

Names are Istio Mixer's (attribute vocabulary, 1.7 and before). Places are declared, not coded: a path in
envoy.service.auth.v3.AttributeContext for a check, in envoy.data.accesslog.v3.HTTPAccessLogEntry for a log entry, or
where it says so in TCPAccessLogEntry.
`bag.py` compiles the first; the table of columns in `telemetry/` names its columns after the attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final


class ValueType(Enum):
    """Types of attributes, by their names in Mixer's istio.policy.v1beta1.ValueType."""

    STRING = "STRING"
    """A str."""
    INT64 = "INT64"
    """An int."""
    BOOL = "BOOL"
    """A bool."""
    TIMESTAMP = "TIMESTAMP"
    """An int: nanoseconds since the epoch."""
    DURATION = "DURATION"
    """A float: seconds."""
    IP_ADDRESS = "IP_ADDRESS"
    """A str, as Envoy writes the address."""
    STRING_MAP = "STRING_MAP"
    """A mapping of str to str."""


Value = str | int | float | bool | Mapping[str, str]
"""What an attribute has, as its ValueType says."""


@dataclass(frozen=True, slots=True)
class At:
    """A value that stands at a path."""

    path: str

    def __str__(self) -> str:
        return f"`{self.path}`"


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of a map of strings at a path."""

    path: str
    key: str

    def __str__(self) -> str:
        return f'`{self.path}["{self.key}"]`'


@dataclass(frozen=True, slots=True)
class Derived:
    """A value that is worked out; in a check by the function of that name in `bag.py`.

    Attributes:
        how: for people.
        function: name in `bag.DERIVATIONS`; empty for log entries, whose columns are derived in `telemetry/`.
        argument: what the function is given besides the message: another attribute's name, or a key.
    """

    how: str
    function: str = ""
    argument: str = ""

    def __str__(self) -> str:
        return self.how


@dataclass(frozen=True, slots=True)
class Absent:
    """The source does not have it."""

    reason: str = ""

    def __str__(self) -> str:
        return f"no ({self.reason})" if self.reason else "no"


Place = At | Key | Derived | Absent


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute.

    Attributes:
        name: dotted name.
        value_type: its type.
        meaning: one line for people.
        check: where a CheckRequest holds it.
        log: where an access-log entry, or its stream's node, holds it.
        deprecated: a legacy name that Mixer declared and nothing fills any more.
    """

    name: str
    value_type: ValueType
    meaning: str
    check: Place
    log: Place
    deprecated: bool = False


_S, _I, _B = ValueType.STRING, ValueType.INT64, ValueType.BOOL
_IP, _T, _D, _M = ValueType.IP_ADDRESS, ValueType.TIMESTAMP, ValueType.DURATION, ValueType.STRING_MAP
_HTTP = "request.http."
_HEADERS = "request.http.headers"
_C = "common_properties."
_TLS = _C + "tls_properties."
_NO_NODE = Absent("a check carries no node; the peer is known by address and certificate")
_NOT_YET = Absent("the check comes before the response")
_ENGINE = Absent("the engine itself says it")
_NOT_LOGGED = Absent("unless its header is logged")
_LEGACY = Absent("legacy name")
_NODE = "node of the stream, on the local side"
_PEER = "peer metadata in filter state, on the remote side"


def _side(side: str, who: str, port: tuple[Attribute, ...], address: Place) -> tuple[Attribute, ...]:
    """What the two sides have alike."""
    principal = f"{side}.principal"
    namespace = Derived(f"`/ns/` of {principal}", "spiffe_namespace", principal)
    logged = Derived(f"{_NODE}; {_PEER}; else `/ns/` of {principal}")
    labels: Place = _NO_NODE if side == "source" else At(f"{side}.labels")
    certificate = Derived(
        f"peer certificate's name downstream: URI, else DNS, else subject; else identity of {_PEER}"
        if side == "source" else "on the server's side, its own certificate's name downstream; on the caller's, the "
        f"custom tag `destination.principal`, else identity of {_PEER}"
    )  # fmt: skip
    workload = Derived(f"approximated by `/sa/` of {principal}", "spiffe_service_account", principal)
    return (
        Attribute(f"{side}.uid", _S, f"platform id of {who}", _NO_NODE,
                  Derived(f"{_NODE}: NAME and NAMESPACE; {_PEER}")),
        Attribute(f"{side}.ip", _IP, f"address of {who}", At(f"{side}.address.socket_address.address"), address),
        *port,
        Attribute(f"{side}.labels", _M, f"labels of {who}", labels, Derived(f"{_NODE}: LABELS; {_PEER}")),
        Attribute(f"{side}.name", _S, f"instance name of {who}", _NO_NODE, Derived(f"{_NODE}: NAME; {_PEER}")),
        Attribute(f"{side}.namespace", _S, f"namespace of {who}", namespace, logged),
        Attribute(principal, _S, f"identity of {who}, with `spiffe://`", At(principal), certificate),
        Attribute(f"{side}.owner", _S, f"controller that owns {who}", _NO_NODE, Derived(f"{_NODE}: OWNER; {_PEER}")),
        Attribute(f"{side}.workload.uid", _S, f"id of the workload of {who}", _NO_NODE,
                  Derived("workload name and namespace")),
        Attribute(f"{side}.workload.name", _S, f"workload of {who}", workload,
                  Derived(f"{_NODE}: WORKLOAD_NAME, else its cluster; {_PEER}; else `/sa/` of {principal}")),
        Attribute(f"{side}.workload.namespace", _S, f"namespace of the workload of {who}", namespace, logged),
    )  # fmt: skip


def _jwt(claim: str) -> Derived:
    return Derived(
        f'{claim} of the token that `metadata_context.filter_metadata["envoy.filters.http.jwt_authn"]` holds',
        "jwt",
        claim,
    )


def _jwt_log(claim: str) -> Derived:
    return Derived(
        f'{claim} in `{_C}metadata.filter_metadata["envoy.filters.http.jwt_authn"]`, else in `["istio_authn"]`'
    )


def _tcp(how: str) -> Derived:
    return Derived(f"TCP entries: {how}")


def _extension(name: str) -> Key:
    return Key("context_extensions", name)


_HOST = Derived("`request.http.host`, which nobody vouches for", "host")
_DESTINATION_PORT = (
    Attribute("destination.port", _I, "port of the server", At("destination.address.socket_address.port_value"),
              Derived("of the same address as destination.ip")),
)  # fmt: skip

ATTRIBUTES: Final[tuple[Attribute, ...]] = (
    *_side("source", "the caller", (),
           Derived(f"`{_C}downstream_direct_remote_address`, else downstream_remote_address")),
    *_side("destination", "the server", _DESTINATION_PORT,
           Derived(f"inbound `{_C}downstream_local_address`, outbound `{_C}upstream_remote_address`")),
    Attribute("destination.container.name", _S, "container of the server", _NO_NODE,
              Derived(f"{_NODE}: APP_CONTAINERS")),
    Attribute("destination.container.image", _S, "image of that container", _NO_NODE, Absent()),
    Attribute("destination.service.host", _S, "host of the service", _HOST,
              Derived(f"fourth part of `{_C}upstream_cluster`, else `request.authority`")),
    Attribute("destination.service.name", _S, "short name of the service",
              Derived("first label of destination.service.host", "first_label", "destination.service.host"),
              Derived("first label of destination.service.host")),
    Attribute("destination.service.namespace", _S, "namespace of the service",
              Derived("second label of a host in `.svc`", "service_namespace", "destination.service.host"),
              Derived("second label of a host in `.svc`, else destination.namespace")),
    Attribute("destination.service.uid", _S, "id of the service", _NO_NODE,
              Derived(f"host of `{_C}upstream_cluster`, where it is in `.svc`")),
    Attribute("origin.ip", _IP, "original client",
              Derived("first of x-forwarded-for, which a client may forge", "forwarded_for"),
              At(_C + "downstream_remote_address.socket_address.address")),
    Attribute("request.headers", _M, "headers, names in lower case",
              Derived(f"`{_HEADERS}`, else header_map", "headers"),
              At("request.request_headers")),
    Attribute("request.id", _S, "x-request-id", Key(_HEADERS, "x-request-id"), At("request.request_id")),
    Attribute("request.path", _S, "path with query", At(_HTTP + "path"),
              Derived("`request.original_path`, else `request.path`")),
    Attribute("request.url_path", _S, "path without query", Derived("request.path up to `?` or `#`", "url_path"),
              Derived("request.path up to `?` or `#`")),
    Attribute("request.query_params", _M, "parsed query; the first value of a repeated name counts",
              Derived("query of request.path", "query_params"), Derived("query of request.path")),
    Attribute("request.host", _S, "authority or Host header", At(_HTTP + "host"), At("request.authority")),
    Attribute("request.method", _S, "method", At(_HTTP + "method"), At("request.request_method")),
    Attribute("request.scheme", _S, "scheme", At(_HTTP + "scheme"), At("request.scheme")),
    Attribute("request.referer", _S, "Referer", Key(_HEADERS, "referer"), At("request.referer")),
    Attribute("request.useragent", _S, "User-Agent", Key(_HEADERS, "user-agent"), At("request.user_agent")),
    Attribute("request.reason", _S, "reason given for an audit", Key(_HEADERS, "x-goog-request-reason"), _NOT_LOGGED),
    Attribute("request.size", _I, "bytes of the body; in a check, seen so far", At(_HTTP + "size"),
              At("request.request_body_bytes")),
    Attribute("request.total_size", _I, "bytes on the wire", _NOT_YET, At(_C + "downstream_wire_bytes_received")),
    Attribute("request.time", _T, "start of the request", At("request.time"), At(_C + "start_time")),
    Attribute("request.auth.principal", _S, "issuer and subject of the token", _jwt("iss/sub"), _jwt_log("iss/sub")),
    Attribute("request.auth.audiences", _S, "audiences of the token, joined by commas", _jwt("aud"), _jwt_log("aud")),
    Attribute("request.auth.presenter", _S, "authorized presenter of the token", _jwt("azp"), _jwt_log("azp")),
    Attribute("request.auth.claims", _M, "claims of the token; one that is no text as JSON", _jwt("claims"),
              _jwt_log("claims")),
    Attribute("request.api_key", _S, "API key", Key(_HEADERS, "x-api-key"), _NOT_LOGGED),
    Attribute("response.code", _I, "status", _NOT_YET, At("response.response_code.value")),
    Attribute("response.headers", _M, "headers", _NOT_YET, At("response.response_headers")),
    Attribute("response.size", _I, "bytes of the body", _NOT_YET, At("response.response_body_bytes")),
    Attribute("response.total_size", _I, "bytes on the wire", _NOT_YET, At(_C + "downstream_wire_bytes_sent")),
    Attribute("response.duration", _D, "time to the last byte", _NOT_YET,
              Derived(f"`{_C}duration`, else time_to_last_downstream_tx_byte")),
    Attribute("response.time", _T, "when the response began", _NOT_YET,
              Derived(f"`{_C}start_time` and time_to_first_upstream_rx_byte, else time_to_first_downstream_tx_byte")),
    Attribute("response.grpc_status", _S, "grpc-status", _NOT_YET,
              Derived("grpc-status of `response.response_trailers`, else of response_headers, if logged")),
    Attribute("response.grpc_message", _S, "grpc-message", _NOT_YET,
              Derived("grpc-message of `response.response_trailers`, else of response_headers, if logged")),
    Attribute("connection.id", _S, "id of the connection", Absent(), At(_C + "stream_id")),
    Attribute("connection.event", _S, "open, continue or close", Absent("a check is the start"),
              _tcp(f"`{_C}access_log_type`")),
    Attribute("connection.received.bytes", _I, "bytes received since the last report", _NOT_YET,
              _tcp("`connection_properties.received_bytes`, less that of the report before")),
    Attribute("connection.received.bytes_total", _I, "bytes received", _NOT_YET,
              _tcp("`connection_properties.received_bytes`")),
    Attribute("connection.sent.bytes", _I, "bytes sent since the last report", _NOT_YET,
              _tcp("`connection_properties.sent_bytes`, less that of the report before")),
    Attribute("connection.sent.bytes_total", _I, "bytes sent", _NOT_YET,
              _tcp("`connection_properties.sent_bytes`")),
    Attribute("connection.duration", _D, "age of the connection", _NOT_YET, _tcp(f"`{_C}duration`, at its end")),
    Attribute("connection.mtls", _B, "mutual TLS downstream",
              Derived("`source.principal` or `source.certificate` is there", "mutual_tls"),
              Derived(f"alternative names in both certificates of `{_TLS.rstrip('.')}`")),
    Attribute("connection.requested_server_name", _S, "SNI", At("tls_session.sni"), At(_TLS + "tls_sni_hostname")),
    Attribute("context.protocol", _S, "http, grpc or tcp", Derived("content-type", "protocol"),
              Derived("logged content-type or grpc-status; `tcp` is what table connections holds")),
    Attribute("context.time", _T, "time of the operation", Absent("now"), Derived(f"`{_C}start_time` and duration")),
    Attribute("context.reporter.kind", _S, "inbound or outbound", _extension("context.reporter.kind"),
              Derived("the log's name, the cluster's prefix, or the node")),
    Attribute("context.reporter.uid", _S, "id of the proxy that reports", _extension("context.reporter.uid"),
              Derived("`identifier.node.id` of the stream")),
    Attribute("context.proxy_error_code", _S, "Envoy's response flags", _NOT_YET,
              Derived(f"`{_C}response_flags` as short codes (column response_flags)")),
    *(Attribute(f"api.{name}", _S, f"API {name}", _extension(f"api.{name}"), Key(_C + "custom_tags", f"api.{name}"))
      for name in ("service", "version", "operation", "protocol")),
    Attribute("check.error_code", _I, "status of the check", _ENGINE, Derived("`response.response_code_details`")),
    Attribute("check.error_message", _S, "message of the check", _ENGINE,
              Derived(f'`{_C}metadata.filter_metadata["envoy.filters.http.ext_authz"]`')),
    Attribute("check.cache_hit", _B, "whether the decision came from the cache", _ENGINE,
              Absent("see decisions.cache")),
    Attribute("quota.cache_hit", _B, "whether the quota came from a lease", _ENGINE, Absent()),
    *(Attribute(f"rbac.permissive.{name}", _S, f"dry-run result: {name}", Absent(),
                Derived(f'`{_C}metadata.filter_metadata["envoy.filters.http.rbac"]`'))
      for name in ("response_code", "effective_policy_id")),
    *(Attribute(f"{side}.serviceAccount", _S, "service account",
                Derived(f"`/sa/` of {side}.principal", "spiffe_service_account", f"{side}.principal"),
                Derived(f"{_NODE}: SERVICE_ACCOUNT; else `/sa/` of {side}.principal"))
      for side in ("source", "destination")),
    Attribute("source.user", _S, "former name of source.principal", At("source.principal"), _LEGACY, deprecated=True),
    *(Attribute(name, kind, "declared by Mixer, filled by nothing", _LEGACY, _LEGACY, deprecated=True)
      for name, kind in (
          ("source.services", _S), ("source.metadata", _M), ("destination.metadata", _M), ("origin.uid", _S),
          ("origin.user", _S), ("request.auth.raw_claims", _S), ("context.timestamp", _T),
          ("context.reporter.local", _B))),
    Attribute("context.proxy_version", _S, "version of the proxy that reports", _NO_NODE,
              Derived("node of the stream: ISTIO_VERSION")),
)  # fmt: skip
"""Every attribute."""

VOCABULARY: Final[Mapping[str, Attribute]] = MappingProxyType({attribute.name: attribute for attribute in ATTRIBUTES})
"""Attributes by name."""

"""The one table of columns: what a row of each table holds, and where each value comes from.

Projection, Arrow schema, DDL, validation and docs/columns.md are made from it. A column is named as its attribute
is, with `.` as `_` (DESIGN 3.5). Adding a column that is read from one place is one line here, or in
`decision_columns.py`.
Not for: what a column is (`column.py`), or how a value is computed (`access_log/`).
"""

from __future__ import annotations

from typing import Final

from mixer_py.telemetry.column import (
    CODE,
    COUNT,
    FEW,
    FLAG,
    INSTANT,
    LEFT,
    NAME,
    SPAN,
    TEXT,
    TEXTS,
    Column,
    Derived,
    Field,
    Metadata,
    Named,
    NamedClaims,
    NamedHeader,
    NamedParameters,
    Party,
    Span,
    TableOfColumns,
    Tag,
    Token,
)
from mixer_py.telemetry.decision_columns import DECISIONS

EXT_AUTHZ: Final = "envoy.filters.http.ext_authz"
NETWORK_EXT_AUTHZ: Final = "envoy.filters.network.ext_authz"
RATE_LIMIT: Final = "envoy.filters.http.ratelimit"
RBAC: Final = "envoy.filters.http.rbac"
NETWORK_RBAC: Final = "envoy.filters.network.rbac"
SHADOW_PREFIXES: Final = ("", "istio_dry_run_deny_", "istio_dry_run_allow_")
"""What RBAC filters put before the keys of their shadow's result: nothing, or what Istio has them put there."""
SHADOW_KEYS: Final = ("shadow_engine_result", "shadow_effective_policy_id")

_C = "common_properties."
_TLS = _C + "tls_properties."
_FILTER_STATE = (_C + "filter_state_objects",)
_LOCAL = "reporter `source`: the node; else peer metadata; else "
_REMOTE = "reporter `destination`: the node; else peer metadata; else "
_CLUSTER = "`common_properties.upstream_cluster` (else the custom tag `upstream.cluster`)"
_REPORTER = f"the log's name, else the prefix of {_CLUSTER}, else the node's id, else `source`"


def _side(side: str, who: str, other: str) -> tuple[Column, ...]:
    """The facts that both sides have alike, in Istio's terms."""
    return (
        Column(f"{side}_namespace", NAME, f"namespace of {who}",
               Party(other + f"`/ns/` of {side}_principal", _FILTER_STATE)),
        Column(f"{side}_workload_name", NAME, f"workload of {who}; from a SPIFFE name, its service account",
               Party(other + f"`/sa/` of {side}_principal; node: WORKLOAD_NAME, else `node.cluster`")),
        Column(f"{side}_workload_namespace", NAME, f"namespace of the workload of {who}",
               Party(other + f"`/ns/` of {side}_principal; node: NAMESPACE")),
        Column(f"{side}_canonical_service", NAME, f"canonical service of {who}",
               Party(other + "empty; node: label service.istio.io/canonical-name")),
        Column(f"{side}_canonical_revision", NAME, f"canonical revision of {who}",
               Party(other + "empty; node: label service.istio.io/canonical-revision")),
        Column(f"{side}_app", NAME, f"label `app` of {who}", Party(other + "empty; node: label app")),
        Column(f"{side}_version", NAME, f"label `version` of {who}", Party(other + "empty; node: label version")),
        Column(f"{side}_cluster", NAME, f"Kubernetes cluster of {who}", Party(other + "empty; node: CLUSTER_ID")),
        Column(f"{side}_name", NAME, f"instance of {who}, a pod", Party(other + "empty; node: NAME")),
        Column(f"{side}_owner", NAME, f"what controls {who}", Party(other + "empty; node: OWNER")),
        Column(f"{side}_workload_uid", NAME, f"id of the workload of {who}",
               Party("`istio://` and namespace and name of the workload, where metadata tell them")),
        Column(f"{side}_uid", NAME, f"id of the instance of {who}",
               Party("`kubernetes://` and name and namespace of the instance, where metadata tell them")),
        Column(f"{side}_serviceAccount", NAME, f"service account of {who}",
               Party(other + f"`/sa/` of {side}_principal; node: SERVICE_ACCOUNT")),
        Column(f"{side}_labels", TEXTS, f"up to 64 labels of {who}", Party(other + "empty; node: LABELS"), "headers"),
    )  # fmt: skip


def _decided(filter_name: str) -> tuple[Column, ...]:
    """What the filter that asked mixer left of its decision."""
    return (
        Column("decision", NAME, "path of the decision in the policy", Metadata(filter_name, "mixer_decision")),
        Column("policy_revision", NAME, "revision of the policy that decided", Metadata(filter_name, "mixer_revision")),
        Column("rule", NAME, "the rule that decided, such as `data.envoy.authz.allow`",
               Metadata(filter_name, "mixer_rule")),
        Column("reasons", TEXT, "why, joined by `; `", Metadata(filter_name, "mixer_reasons"), "text"),
    )  # fmt: skip


def _shadowed(filter_name: str) -> tuple[Column, ...]:
    """What RBAC rules would have done that are not enforced: Istio's dry run, Envoy's shadow rules."""
    result, policy = SHADOW_KEYS
    results, policies = ([Metadata(filter_name, before + key) for before in SHADOW_PREFIXES] for key in SHADOW_KEYS)
    how = (
        f'of `{_C}metadata.filter_metadata["{filter_name}"]`, also with istio_dry_run_deny_ or istio_dry_run_allow_ '
        "before it; who denies counts more than who allows, and who names a policy more than who names none"
    )
    return (
        Column("rbac_permissive_response_code", NAME, "what rules of a dry run say: allowed or denied; empty without",
               Derived(f"{result} {how}", metadata=tuple(results))),
        Column("rbac_permissive_effective_policy_id", NAME, "the policy in a dry run that says so",
               Derived(f"{policy} {how}", metadata=(*results, *policies))),
    )  # fmt: skip


_WHO: Final = (
    Column("source_ip", TEXT, "address that the connection came from", Derived(
        "`common_properties.downstream_direct_remote_address`, else downstream_remote_address",
        (_C + "downstream_direct_remote_address.socket_address.address",
         _C + "downstream_remote_address.socket_address.address"))),
    Column("source_port", CODE, "its port", Derived("of the same address as source_ip", (
        _C + "downstream_direct_remote_address.socket_address.port_value",
        _C + "downstream_remote_address.socket_address.port_value"))),
    Column("origin_ip", TEXT, "original client, after x-forwarded-for as Envoy trusts it",
           Field(_C + "downstream_remote_address.socket_address.address")),
    Column("source_principal", NAME, "identity of the caller's certificate", Derived(
        "peer certificate downstream: first URI name, else first DNS name, else subject; else identity of peer "
        "metadata",
        (_TLS + "peer_certificate_properties.subject_alt_name.uri",
         _TLS + "peer_certificate_properties.subject_alt_name.dns",
         _TLS + "peer_certificate_properties.subject"))),
    *_side("source", "the caller", _LOCAL),
    Column("destination_ip", TEXT, "address of the server", Derived(
        "reporter `source`: `common_properties.upstream_remote_address`; else downstream_local_address",
        (_C + "upstream_remote_address.socket_address.address",
         _C + "downstream_local_address.socket_address.address"))),
    Column("destination_port", CODE, "its port", Derived("of the same address as destination_ip", (
        _C + "upstream_remote_address.socket_address.port_value",
        _C + "downstream_local_address.socket_address.port_value"))),
    Column("destination_principal", NAME, "identity of the server's certificate", Party(
        "reporter `destination`: local certificate downstream, as source_principal; else the custom tag "
        "`destination.principal`, else identity of peer metadata", (_C + "custom_tags",))),
    *_side("destination", "the server", _REMOTE),
    Column("destination_container_name", NAME, "server containers", Party(_REMOTE + "empty; node: APP_CONTAINERS")),
    Column("destination_service_uid", NAME, "id of the service",
           Party("`istio://` and namespace and name of the service, where the cluster's host is in `.svc`")),
    Column("context_proxy_version", NAME, "version of the proxy that reports", Party("the node's ISTIO_VERSION")),
)  # fmt: skip
"""Both parties, as far as addresses, certificates and the stream's node tell."""


_MTLS: Final = Column("connection_mtls", FLAG, "both sides showed a certificate with a name downstream", Derived(
    "a subject alternative name in both certificates of `common_properties.tls_properties`",
    (_TLS + "local_certificate_properties.subject_alt_name.uri",
     _TLS + "local_certificate_properties.subject_alt_name.dns",
     _TLS + "local_certificate_properties.subject")))  # fmt: skip
_FLAGS: Final = Column("response_flags", NAME, "Envoy's short codes, joined by commas; - when there are none", Derived(
    "`common_properties.response_flags`", (_C + "response_flags",)))  # fmt: skip
_TERMINATION: Final = Column("connection_termination_details", NAME, "what ended the connection, where that was Envoy",
                             Field(_C + "connection_termination_details"))  # fmt: skip
_SPANS: Final = tuple(
    Column(f"time_to_{point}", SPAN, f"microseconds until the {meaning}", Span(f"{_C}time_to_{point}"))
    for point, meaning in (
        ("last_rx_byte", "last byte of the request had come"),
        ("first_upstream_tx_byte", "first byte was sent upstream"),
        ("last_upstream_tx_byte", "last byte was sent upstream"),
        ("first_upstream_rx_byte", "first byte of the response came from upstream"),
        ("last_upstream_rx_byte", "last byte of the response came from upstream"),
        ("first_downstream_tx_byte", "first byte of the response was sent"),
        ("last_downstream_tx_byte", "last byte of the response was sent"),
    )
)
"""The chain of times, each from the first byte of the request."""
_UPSTREAM: Final = (
    Column("upstream_cluster", NAME, "Envoy's cluster", Field(_C + "upstream_cluster")),
    Column("upstream_transport_failure_reason", NAME, "why the upstream connection failed",
           Field(_C + "upstream_transport_failure_reason")),
    Column("upstream_ip", TEXT, "address of the upstream that was chosen",
           Field(_C + "upstream_remote_address.socket_address.address")),
    Column("upstream_request_attempt_count", FEW, "tries to reach an upstream, retries included",
           Field(_C + "upstream_request_attempt_count")),
    Column("upstream_wire_bytes_sent", COUNT, "bytes sent upstream on the wire",
           Field(_C + "upstream_wire_bytes_sent")),
    Column("upstream_wire_bytes_received", COUNT, "bytes received from upstream on the wire",
           Field(_C + "upstream_wire_bytes_received")),
    Column("downstream_transport_failure_reason", NAME, "why the connection of the client failed",
           Field(_C + "downstream_transport_failure_reason")),
    Column("tls_version", NAME, "version of TLS downstream", Derived(
        "`common_properties.tls_properties.tls_version`", (_TLS + "tls_version",))),
    *(Column(f"api_{name}", NAME, f"API {name}", Tag(f"api.{name}"), "text")
      for name in ("service", "version", "operation", "protocol")),
    Column("custom_tags", TEXTS, "custom tags by name", Derived(
        "`common_properties.custom_tags`", (_C + "custom_tags",)), "headers"),
)  # fmt: skip


REQUESTS: Final = TableOfColumns(
    name="requests",
    meaning="One row a finished request: verdict, limits and outcome together, from Envoy's access log",
    columns=(
        Column("timestamp", INSTANT, "start of the request", Derived(
            "`common_properties.start_time`, or when it was received if that is absent", (_C + "start_time",))),
        Column("request_id", TEXT, "x-request-id, the same at every proxy it passed", Field("request.request_id")),
        Column("decision_id", TEXT, "the decision that let it through or not", Metadata(EXT_AUTHZ, "decision_id")),
        Column("verdict", NAME, "allow, deny, error, bypassed (Envoy went on without an answer) or none", Derived(
            "mixer_verdict of ext_authz's metadata; else `error` if response_code_details has ext_authz_error; else "
            "`bypassed` if the request header x-envoy-auth-failure-mode-allowed was logged as true; else `none`",
            ("response.response_code_details", "request.request_headers"), (Metadata(EXT_AUTHZ, "mixer_verdict"),))),
        *_decided(EXT_AUTHZ),
        Column("quota_name", NAME, "the attribute quota that decided, or had the least left",
               Metadata(EXT_AUTHZ, "mixer_quota")),
        Column("quota_code", NAME, "OK, OVER_LIMIT, SHADOW_OVER_LIMIT or ERROR; empty when no quota was charged",
               Metadata(EXT_AUTHZ, "mixer_quota_code")),
        Column("quota_remaining", LEFT, "what was left of that quota", Metadata(EXT_AUTHZ, "mixer_quota_remaining")),
        Column("limit_name", NAME, "the rate-limit rule that decided", Metadata(RATE_LIMIT, "mixer_limit")),
        Column("limit_code", NAME, "OK or OVER_LIMIT; empty when none was asked", Metadata(RATE_LIMIT, "mixer_code")),
        Column("limit_remaining", LEFT, "what was left of that limit", Metadata(RATE_LIMIT, "mixer_remaining")),
        Column("reporter", NAME, "which side's proxy reports: source, destination or waypoint", Party(_REPORTER)),
        Column("context_reporter_uid", NAME, "id of the proxy that reports", Party("`identifier.node.id`")),
        Column("context_protocol", NAME, "http or grpc", Derived(
            "`grpc` if the logged content-type says so or a grpc-status was logged, else `http`",
            ("request.request_headers", "response.response_headers", "response.response_trailers"))),
        Column("protocol_version", NAME, "version of HTTP downstream", Derived(
            "`protocol_version`, as Envoy writes it", ("protocol_version",))),
        *_WHO,
        Column("destination_service_host", NAME, "host of the service", Derived(
            f"fourth part of {_CLUSTER} (`outbound|port|subset|host`), else a cluster's own name, else the authority",
            (_C + "upstream_cluster", "request.authority"))),
        Column("destination_service_name", NAME, "short name of the service", Derived(
            "first label of destination_service_host, else a cluster's own name", (_C + "upstream_cluster",))),
        Column("destination_service_namespace", NAME, "namespace of the service", Derived(
            "second label of a host in `.svc`, else destination_namespace", (_C + "upstream_cluster",))),
        Column("request_method", NAME, "method", Derived("`request.request_method`", ("request.request_method",))),
        Column("request_scheme", NAME, "scheme", Field("request.scheme")),
        Column("request_host", TEXT, "authority or Host header", Field("request.authority")),
        Column("request_url_path", TEXT, "path as the client sent it, without query", Derived(
            "`request.original_path`, else `request.path`, up to `?` or `#`",
            ("request.original_path", "request.path")), "text"),
        Column("request_query_params", TEXTS, "parameters of the query, decoded; of a repeated one the first value",
               NamedParameters("request.original_path", "request.path"), "parameters"),
        Column("request_headers", TEXTS, "request headers by name", Named("request.request_headers", "headers.request"),
               "headers"),
        Column("request_referer", TEXT, "Referer", NamedHeader("request.referer", "referer"), "text"),
        Column("request_useragent", TEXT, "User-Agent", Field("request.user_agent"), "text"),
        Column("request_auth_principal", NAME, "issuer and subject of the token", Token("iss/sub")),
        Column("request_auth_audiences", NAME, "audiences of the token, joined by commas", Token("aud")),
        Column("request_auth_presenter", NAME, "authorized presenter of the token", Token("azp")),
        Column("request_auth_claims", TEXTS, "claims of the token by name: texts joined by commas, others as JSON",
               NamedClaims(), "headers"),
        Column("request_size", COUNT, "bytes of the request's body", Field("request.request_body_bytes")),
        Column("request_total_size", COUNT, "bytes received on the wire", Field(_C + "downstream_wire_bytes_received")),
        Column("request_headers_bytes", COUNT, "bytes of the request's headers",
               Field("request.request_headers_bytes")),
        Column("response_code", CODE, "HTTP status; 0 when none was sent", Field("response.response_code.value")),
        Column("response_code_details", NAME, "what made the response", Field("response.response_code_details")),
        _FLAGS,
        Column("response_grpc_status", NAME, "grpc-status, if logged", Derived(
            "grpc-status of `response.response_trailers`, else of response_headers",
            ("response.response_trailers", "response.response_headers"))),
        Column("response_grpc_message", TEXT, "grpc-message, if logged", Derived(
            "grpc-message of `response.response_trailers`, else of response_headers",
            ("response.response_trailers", "response.response_headers")), "text"),
        Column("response_headers", TEXTS, "response headers by name",
               Named("response.response_headers", "headers.response"), "headers"),
        Column("response_trailers", TEXTS, "response trailers by name",
               Named("response.response_trailers", "headers.trailers"), "headers"),
        Column("response_size", COUNT, "bytes of the response's body", Field("response.response_body_bytes")),
        Column("response_total_size", COUNT, "bytes sent on the wire", Field(_C + "downstream_wire_bytes_sent")),
        Column("response_headers_bytes", COUNT, "bytes of the response's headers",
               Field("response.response_headers_bytes")),
        Column("response_duration", COUNT, "microseconds from first byte received to last byte sent", Derived(
            "`common_properties.duration`, else time_to_last_downstream_tx_byte",
            (_C + "duration", _C + "time_to_last_downstream_tx_byte"))),
        *_SPANS,
        Column("response_time", INSTANT, "when the response began; 1970-01-01 where none did", Derived(
            "`common_properties.start_time` and time_to_first_upstream_rx_byte, else time_to_first_downstream_tx_byte",
            (_C + "start_time", _C + "time_to_first_upstream_rx_byte", _C + "time_to_first_downstream_tx_byte"))),
        Column("request_messages", COUNT, "messages that the client sent, of gRPC", Derived(
            '`common_properties.filter_state_objects["envoy.filters.http.grpc_stats"]`', _FILTER_STATE)),
        Column("response_messages", COUNT, "messages that the server sent, of gRPC", Derived(
            '`common_properties.filter_state_objects["envoy.filters.http.grpc_stats"]`', _FILTER_STATE)),
        _MTLS,
        Column("connection_requested_server_name", NAME, "SNI", Field(_TLS + "tls_sni_hostname")),
        _TERMINATION,
        *_shadowed(RBAC),
        *_UPSTREAM,
        Column("route_name", NAME, "Envoy's route", Field(_C + "route_name")),
    ),
    order_by="(toStartOfHour(timestamp), destination_service_name, verdict, timestamp)",
    indexed=("request_id", "decision_id"),
    entry="HTTPAccessLogEntry",
)  # fmt: skip


CONNECTIONS: Final = TableOfColumns(
    name="connections",
    meaning="One row a report about a TCP connection: opened, at intervals, closed; from Envoy's access log",
    columns=(
        Column("timestamp", INSTANT, "when Envoy reported", Derived(
            "`common_properties.start_time` and duration; or when it was received, where Envoy tells no duration and "
            "the report opens nothing, or no start",
            (_C + "start_time", _C + "duration"))),
        Column("connection_id", TEXT, "the connection, the same in each of its rows", Field(_C + "stream_id")),
        Column("connection_event", NAME, "open, continue or close", Derived(
            "`common_properties.access_log_type`: `open` for TcpUpstreamConnected and other starts, `continue` for "
            "TcpPeriodic and other intervals, else `close`",
            (_C + "access_log_type", _C + "intermediate_log_entry"))),
        Column("decision_id", TEXT, "the decision that let it through or not",
               Metadata(NETWORK_EXT_AUTHZ, "decision_id")),
        Column("verdict", NAME, "allow, deny, error or none", Derived(
            "mixer_verdict of ext_authz's metadata; else `error` if connection_termination_details has "
            "ext_authz_error; else `none`",
            (_C + "connection_termination_details",), (Metadata(NETWORK_EXT_AUTHZ, "mixer_verdict"),))),
        *_decided(NETWORK_EXT_AUTHZ),
        Column("reporter", NAME, "which side's proxy reports: source, destination or waypoint", Party(_REPORTER)),
        Column("context_reporter_uid", NAME, "id of the proxy that reports", Party("`identifier.node.id`")),
        *_WHO,
        Column("destination_service_host", NAME, "host of the service", Party(
            f"fourth part of {_CLUSTER} (`outbound|port|subset|host`), else a cluster's own name")),
        Column("destination_service_name", NAME, "short name of the service", Party(
            "first label of destination_service_host, else a cluster's own name")),
        Column("destination_service_namespace", NAME, "namespace of the service", Derived(
            "second label of a host in `.svc`, else destination_namespace", (_C + "upstream_cluster",))),
        Column("connection_received_bytes", COUNT, "bytes from the client since the report before", Derived(
            "connection_received_bytes_total less that of the connection's report before",
            ("connection_properties.received_bytes",))),
        Column("connection_sent_bytes", COUNT, "bytes to the client since the report before", Derived(
            "connection_sent_bytes_total less that of the connection's report before",
            ("connection_properties.sent_bytes",))),
        Column("connection_received_bytes_total", COUNT, "bytes from the client until now",
               Field("connection_properties.received_bytes")),
        Column("connection_sent_bytes_total", COUNT, "bytes to the client until now",
               Field("connection_properties.sent_bytes")),
        Column("connection_duration", SPAN, "microseconds that it lasted; Envoy tells it at its end only",
               Span(_C + "duration")),
        _MTLS,
        Column("connection_requested_server_name", NAME, "SNI", Field(_TLS + "tls_sni_hostname")),
        _TERMINATION,
        *_shadowed(NETWORK_RBAC),
        _FLAGS,
        *_UPSTREAM,
        Column("route_name", NAME, "Envoy's route", Field(_C + "route_name")),
    ),
    order_by="(toStartOfHour(timestamp), destination_service_name, timestamp)",
    indexed=("connection_id", "decision_id"),
    entry="TCPAccessLogEntry",
)  # fmt: skip


TABLES: Final = {table.name: table for table in (REQUESTS, CONNECTIONS, DECISIONS)}
"""Every table, by name."""

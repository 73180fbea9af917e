"""The one table of columns: what a row of `requests` and of `decisions` holds, and where each value comes from.

Projection, Arrow schema, DDL, validation and docs/columns.md are made from it. A column is named as its attribute
is, with `.` as `_` (DESIGN 3.5). Adding a column that is read from one place is one line here.
Not for: how a value is computed (`derivation.py`, `parties.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import pyarrow as pa

EXT_AUTHZ: Final = "envoy.filters.http.ext_authz"
RATE_LIMIT: Final = "envoy.filters.http.ratelimit"


@dataclass(frozen=True, slots=True)
class Kind:
    """A column's type in both worlds.

    Attributes:
        clickhouse: type in DDL.
        arrow: type in a record batch.
        default: value of a row that has none; None where the column is nullable.
        codec: ClickHouse codecs, empty for the server's own choice.
    """

    clickhouse: str
    arrow: pa.DataType
    default: object
    codec: str = ""

    @property
    def nullable(self) -> bool:
        """Whether a row may have no value at all."""
        return self.default is None


INSTANT: Final = Kind("DateTime64(9, 'UTC')", pa.timestamp("ns", tz="UTC"), 0, "Delta, ZSTD(1)")
TEXT: Final = Kind("String", pa.string(), "", "ZSTD(1)")
NAME: Final = Kind("LowCardinality(String)", pa.string(), "")
CODE: Final = Kind("UInt16", pa.uint16(), 0, "T64, ZSTD(1)")
COUNT: Final = Kind("UInt64", pa.uint64(), 0, "T64, ZSTD(1)")
LEFT: Final = Kind("Nullable(UInt32)", pa.uint32(), None, "ZSTD(1)")
FLAG: Final = Kind("Bool", pa.bool_(), False)  # noqa: FBT003 (a default value, not a switch)
REAL: Final = Kind("Float64", pa.float64(), 0.0, "ZSTD(1)")


@dataclass(frozen=True, slots=True)
class Field:
    """A value as it stands at a path of envoy.data.accesslog.v3.HTTPAccessLogEntry."""

    path: str

    def __str__(self) -> str:
        return f"`{self.path}`"


@dataclass(frozen=True, slots=True)
class Metadata:
    """A string or number in the dynamic metadata that a filter left: `common_properties.metadata`."""

    namespace: str
    key: str

    def __str__(self) -> str:
        return f'`common_properties.metadata.filter_metadata["{self.namespace}"]["{self.key}"]`'


VERDICT: Final = Metadata(EXT_AUTHZ, "mixer_verdict")
"""Read for `requests.verdict`, which has other sources too."""


@dataclass(frozen=True, slots=True)
class Party:
    """A fact about one of the two sides, from stream identity, certificates and cluster (`parties.py`)."""

    how: str

    def __str__(self) -> str:
        return self.how


@dataclass(frozen=True, slots=True)
class Derived:
    """The function of the column's name in `derivation.py`, over these paths."""

    how: str
    paths: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.how


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the check itself says when it records a decision."""

    how: str = "the check"

    def __str__(self) -> str:
        return self.how


Source = Field | Metadata | Party | Derived | Recorded


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: column name.
        kind: its types.
        meaning: one line for people; DDL comment and docs.
        source: where its value comes from.
    """

    name: str
    kind: Kind
    meaning: str
    source: Source


@dataclass(frozen=True)
class TableOfColumns:
    """One ClickHouse table.

    Attributes:
        name: table name, without database.
        meaning: one line for people.
        columns: in order.
        order_by: sorting key.
        indexed: columns that rows are looked up by.
    """

    name: str
    meaning: str
    columns: tuple[Column, ...]
    order_by: str
    indexed: tuple[str, ...]

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema of a batch of its rows."""
        return pa.schema([pa.field(c.name, c.kind.arrow, nullable=c.kind.nullable) for c in self.columns])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(column.name for column in self.columns)


_C = "common_properties."
_TLS = _C + "tls_properties."
_LOCAL = "reporter `source`: the node; else "
_REMOTE = "reporter `destination`: the node; else "
_CLUSTER = "`common_properties.upstream_cluster`"


def _side(side: str, who: str, other: str) -> tuple[Column, ...]:
    """The facts that both sides have alike, in Istio's terms."""
    return (
        Column(f"{side}_namespace", NAME, f"namespace of {who}", Party(other + f"`/ns/` of {side}_principal")),
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
            ("response.response_code_details", "request.request_headers"))),
        Column("decision", NAME, "path of the decision in the policy", Metadata(EXT_AUTHZ, "mixer_decision")),
        Column("policy_revision", NAME, "revision of the policy that decided", Metadata(EXT_AUTHZ, "mixer_revision")),
        Column("rule", NAME, "the rule that the policy says decided", Metadata(EXT_AUTHZ, "mixer_rule")),
        Column("reasons", TEXT, "why, joined by `; `", Metadata(EXT_AUTHZ, "mixer_reasons")),
        Column("quota_name", NAME, "the attribute quota that decided, or had the least left",
               Metadata(EXT_AUTHZ, "mixer_quota")),
        Column("quota_code", NAME, "OK, OVER_LIMIT, SHADOW_OVER_LIMIT or ERROR; empty when no quota was charged",
               Metadata(EXT_AUTHZ, "mixer_quota_code")),
        Column("quota_remaining", LEFT, "what was left of that quota", Metadata(EXT_AUTHZ, "mixer_quota_remaining")),
        Column("limit_name", NAME, "the rate-limit rule that decided", Metadata(RATE_LIMIT, "mixer_limit")),
        Column("limit_code", NAME, "OK or OVER_LIMIT; empty when none was asked", Metadata(RATE_LIMIT, "mixer_code")),
        Column("limit_remaining", LEFT, "what was left of that limit", Metadata(RATE_LIMIT, "mixer_remaining")),
        Column("reporter", NAME, "which side's proxy reports: source, destination or waypoint", Party(
            f"the log's name, else the prefix of {_CLUSTER}, else the node's id, else `source`")),
        Column("context_reporter_uid", NAME, "id of the proxy that reports", Party("`identifier.node.id`")),
        Column("context_protocol", NAME, "http or grpc", Derived(
            "`grpc` if the logged content-type says so or a grpc-status was logged, else `http`",
            ("request.request_headers", "response.response_headers", "response.response_trailers"))),
        Column("protocol_version", NAME, "version of HTTP downstream", Derived(
            "`protocol_version`, as Envoy writes it", ("protocol_version",))),
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
            "peer certificate downstream: first URI name, else first DNS name, else subject",
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
            "reporter `destination`: local certificate downstream, as source_principal; else empty")),
        *_side("destination", "the server", _REMOTE),
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
            ("request.original_path", "request.path"))),
        Column("request_useragent", TEXT, "User-Agent", Field("request.user_agent")),
        Column("request_size", COUNT, "bytes of the request's body", Field("request.request_body_bytes")),
        Column("request_total_size", COUNT, "bytes received on the wire", Field(_C + "downstream_wire_bytes_received")),
        Column("response_code", CODE, "HTTP status; 0 when none was sent", Field("response.response_code.value")),
        Column("response_code_details", NAME, "what made the response", Field("response.response_code_details")),
        Column("response_flags", NAME, "Envoy's short codes, joined by commas; - when there are none", Derived(
            "`common_properties.response_flags`", (_C + "response_flags",))),
        Column("response_grpc_status", NAME, "grpc-status, if logged", Derived(
            "grpc-status of `response.response_trailers`, else of response_headers",
            ("response.response_trailers", "response.response_headers"))),
        Column("response_grpc_message", TEXT, "grpc-message, if logged", Derived(
            "grpc-message of `response.response_trailers`, else of response_headers",
            ("response.response_trailers", "response.response_headers"))),
        Column("response_size", COUNT, "bytes of the response's body", Field("response.response_body_bytes")),
        Column("response_total_size", COUNT, "bytes sent on the wire", Field(_C + "downstream_wire_bytes_sent")),
        Column("response_duration", COUNT, "microseconds from first byte received to last byte sent", Derived(
            "`common_properties.duration`, else time_to_last_downstream_tx_byte",
            (_C + "duration", _C + "time_to_last_downstream_tx_byte"))),
        Column("connection_mtls", FLAG, "both sides showed a certificate with a name downstream", Derived(
            "a subject alternative name in both certificates of `common_properties.tls_properties`",
            (_TLS + "local_certificate_properties.subject_alt_name.uri",
             _TLS + "local_certificate_properties.subject_alt_name.dns",
             _TLS + "local_certificate_properties.subject"))),
        Column("connection_requested_server_name", NAME, "SNI", Field(_TLS + "tls_sni_hostname")),
        Column("upstream_cluster", NAME, "Envoy's cluster", Field(_C + "upstream_cluster")),
        Column("upstream_transport_failure_reason", NAME, "why the upstream connection failed",
               Field(_C + "upstream_transport_failure_reason")),
        Column("route_name", NAME, "Envoy's route", Field(_C + "route_name")),
    ),
    order_by="(toStartOfHour(timestamp), destination_service_name, verdict, timestamp)",
    indexed=("request_id", "decision_id"),
)  # fmt: skip


DECISIONS: Final = TableOfColumns(
    name="decisions",
    meaning="One row a decision, as mixer made it; the authority where a log entry disagrees",
    columns=(
        Column("timestamp", INSTANT, "when it was decided", Recorded()),
        Column("decision_id", TEXT, "its id, also in Envoy's dynamic metadata", Recorded()),
        Column("request_id", TEXT, "x-request-id of the request", Recorded('request.headers["x-request-id"]')),
        Column("verdict", NAME, "allow, deny or error", Recorded()),
        Column("decision", NAME, "path of the decision in the policy", Recorded("`policy.decision`")),
        Column("rule", NAME, "the rule that the policy says decided", Recorded("the result's `rule`")),
        Column("reasons", TEXT, "why, joined by `; `", Recorded("the result's `reasons`")),
        Column("error", TEXT, "what went wrong when the verdict is error", Recorded()),
        Column("policy_revision", NAME, "revision of the policy that decided", Recorded()),
        Column("bundle_revision", NAME, "revision of its bundle; of several, `bundle=revision` joined by `; `",
               Recorded("`revision` in the bundle's manifest")),
        Column("http_status", CODE, "status that the caller gets from a denial; 0 when allowed", Recorded()),
        Column("quota_name", NAME, "the attribute quota that decided, or had the least left", Recorded()),
        Column("quota_code", NAME, "OK, OVER_LIMIT, SHADOW_OVER_LIMIT or ERROR; empty when no quota was charged",
               Recorded()),
        Column("quota_remaining", LEFT, "what was left of that quota", Recorded()),
        Column("source_ip", TEXT, "address of the caller", Recorded("`attributes.source.address`")),
        Column("source_principal", NAME, "identity of the caller", Recorded("`attributes.source.principal`")),
        Column("source_namespace", NAME, "its namespace", Recorded("`/ns/` of source_principal")),
        Column("destination_ip", TEXT, "address of the server", Recorded("`attributes.destination.address`")),
        Column("destination_principal", NAME, "identity of the server",
               Recorded("`attributes.destination.principal`")),
        Column("destination_namespace", NAME, "its namespace", Recorded("`/ns/` of destination_principal")),
        Column("request_method", NAME, "method", Recorded("`attributes.request.http.method`")),
        Column("request_host", TEXT, "authority or Host header", Recorded("`attributes.request.http.host`")),
        Column("request_url_path", TEXT, "path without query", Recorded("`attributes.request.http.path` up to `?`")),
        Column("tier", NAME, "how the policy was evaluated", Recorded()),
        Column("cache", NAME, "hit, miss or bypass of the decision cache", Recorded()),
        Column("dry_run", FLAG, "whether the verdict was only noted", Recorded("`policy.dry_run`")),
        Column("duration_us", REAL, "microseconds that the decision took", Recorded()),
        Column("shadow_verdict", NAME, "the candidate's: allow, deny or error; timeout or dropped when it gave none; "
               "empty when it was not asked", Recorded("`policy.shadow`")),
        Column("shadow_rule", NAME, "the rule by which the candidate decided", Recorded("its result's `rule`")),
        Column("shadow_reasons", TEXT, "why, joined by `; `, or what went wrong", Recorded("its result's `reasons`")),
        Column("shadow_revision", NAME, "revision of the candidate", Recorded()),
        Column("input", TEXT, "the policy's input as JSON, masked; empty when it is not kept",
               Recorded("the CheckRequest, as the policy saw it")),
        Column("masked", TEXT, "paths of the input whose value was replaced, joined by `; `",
               Recorded("`decision_log.mask` and `system.log.mask`")),
        Column("erased", TEXT, "paths of the input that were removed, joined by `; `",
               Recorded("`system.log.mask` and `decision_log.max_input`")),
    ),
    order_by="(toStartOfHour(timestamp), verdict, timestamp)",
    indexed=("decision_id", "request_id"),
)  # fmt: skip


TABLES: Final = {table.name: table for table in (REQUESTS, DECISIONS)}
"""Every table, by name."""

"""Whether an Envoy asks mixer as it should: what its defaults hide, and what people forget.

The reasons stand beside each setting in deploy/envoy/envoy.yaml.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from mixer_py.config import Configuration
from mixer_py.doctor.envoy_document import Typed, clusters, duration, inside, messages
from mixer_py.doctor.finding import Finding, fault, good, warning
from mixer_py.telemetry.access_log.entries import DOWNSTREAM_PEER, UPSTREAM_PEER
from mixer_py.telemetry.metric_reads import names_read

_LONG: Final = 5.0
"""Seconds that a request may wait for one decision before it is worth a warning."""
_CONNECTIONS: Final = 8
"""Endpoints that several workers need, so that each gets its share: docs/operations.md."""
_MARK: Final = "x-envoy-auth-failure-mode-allowed"
_DEFAULT_MAX_REQUESTS: Final = 1024
_LOGGED: Final = {
    "request_headers": "additional_request_headers_to_log",
    "response_headers": "additional_response_headers_to_log",
    "response_trailers": "additional_response_trailers_to_log",
}
"""By column, the key of the access log that names what it is made of."""
_EXCHANGES: Final = ("io.istio.http.peer_metadata.Config", "envoy.tcp.metadataexchange.config.MetadataExchange")
"""Types of the filters with which Istio's proxies tell each other who they are."""
_PEERS: Final = frozenset((*DOWNSTREAM_PEER, *UPSTREAM_PEER))


@dataclass(frozen=True, slots=True)
class Known:
    """What is known on mixer's side.

    Attributes:
        configuration: the settings.
        domains: of the rate-limit files; None when they cannot be read.
    """

    configuration: Configuration
    domains: frozenset[str] | None


def examine_envoy(document: Any, known: Known) -> Iterator[Finding]:  # noqa: ANN401 (a document of any shape)
    """Looks at every filter and access log that speaks to an authorization, rate limit or log service over gRPC."""
    found = list(messages(document))
    by_kind: dict[str, list[Typed]] = {}
    for one in found:
        by_kind.setdefault(one.kind, []).append(one)
    checks, limits = by_kind.get("ExtAuthz", []), by_kind.get("RateLimit", [])
    logs = by_kind.get("HttpGrpcAccessLogConfig", []) + by_kind.get("TcpGrpcAccessLogConfig", [])
    for manager in by_kind.get("HttpConnectionManager", []):
        yield from _connection_manager(manager)
    for one in checks:
        yield from _check(one, known.configuration)
    for one in limits:
        yield from _limit(one, known.domains)
    allowing = any(inside(one.message, "failure_mode_allow") for one in checks)
    exchanging = any(_exchanges(one) for one in found)
    for one in logs:
        yield from _log(one, known.configuration, allowing=allowing)
        if exchanging:
            yield from _peers(one)
    if not checks:
        yield warning("Envoy", "no filter asks for authorization", "add envoy.filters.http.ext_authz before the router")
    if not logs:
        way_out = "add envoy.access_loggers.http_grpc to access_log"
        yield warning("Envoy", "no access log is sent over gRPC: no rows of requests, no metrics", way_out)
    names = {name for one in (*checks, *limits, *logs) for name in _targets(one.message)}
    yield from _clusters(names, clusters(document), known.configuration)


def _connection_manager(one: Typed) -> Iterator[Finding]:
    subject = "Envoy's paths"
    if not inside(one.message, "normalize_path") or not inside(one.message, "merge_slashes"):
        message = "a policy may see another path than the service: `..` and `//` are not settled before it decides"
        yield warning(subject, message, "normalize_path: true, merge_slashes: true", one.path)
    elif inside(one.message, "path_with_escaped_slashes_action") in {None, "KEEP_UNCHANGED"}:
        message = "a policy may see another path than the service: %2F is left as it is"
        yield warning(subject, message, "path_with_escaped_slashes_action: REJECT_REQUEST", one.path)
    else:
        yield good(subject, "are settled before a policy sees them", one.path)


def _check(one: Typed, configuration: Configuration) -> Iterator[Finding]:
    subject = "Envoy's ext_authz"
    if inside(one.message, "grpc_service") is None:
        yield fault(subject, "asks over HTTP, which mixer does not speak", "use grpc_service", one.path)
        return
    yield from _version(subject, one.message, one.path)
    yield from _timeout(subject, inside(one.message, "grpc_service", "timeout"), "200 ms, and Istio's 600 s", one.path)
    if inside(one.message, "failure_mode_allow") and not inside(one.message, "failure_mode_allow_header_add"):
        message = "lets requests pass when mixer is away, and rows cannot say that they were not checked"
        yield warning(subject, message, "failure_mode_allow_header_add: true", one.path)
    largest = inside(one.message, "with_request_body", "max_request_bytes")
    if isinstance(largest, int) and largest >= configuration.server.max_message_bytes:
        message = (
            f"sends bodies of {largest} bytes, and mixer takes messages of {configuration.server.max_message_bytes}"
        )
        yield fault(subject, message, "lower max_request_bytes, or raise server.max_message_bytes", one.path)


def _limit(one: Typed, domains: frozenset[str] | None) -> Iterator[Finding]:
    subject = "Envoy's ratelimit"
    yield from _version(subject, inside(one.message, "rate_limit_service"), one.path)
    yield from _timeout(subject, inside(one.message, "timeout"), "20 ms", one.path)
    domain = inside(one.message, "domain")
    if domains is not None and domain not in domains:
        have = f"mixer has {', '.join(sorted(domains))}" if domains else "mixer has no rate-limit files"
        message = f"asks in the domain {domain}, where nothing is limited"
        yield fault(subject, message, f"{have}: name the same on both sides", one.path)


def _log(one: Typed, configuration: Configuration, *, allowing: bool) -> Iterator[Finding]:
    subject = "Envoy's access log"
    yield from _version(subject, inside(one.message, "common_config"), one.path)
    if one.kind != "HttpGrpcAccessLogConfig":
        return
    headers = {str(name).lower() for name in inside(one.message, "additional_request_headers_to_log") or ()}
    if allowing and _MARK not in headers:
        message = f"does not log {_MARK}: rows of unchecked requests say verdict `none`"
        yield warning(subject, message, "add it to additional_request_headers_to_log", one.path)
    told = {
        str(name).lower()
        for key in ("additional_response_headers_to_log", "additional_response_trailers_to_log")
        for name in inside(one.message, key) or ()
    }
    if "grpc-status" not in told:
        message = "does not log grpc-status: rows and metrics of gRPC know no status"
        way_out = "add it to additional_response_headers_to_log and additional_response_trailers_to_log"
        yield warning(subject, message, way_out, one.path)
    read = names_read(configuration.telemetry.prometheus.metrics)
    for column, key in _LOGGED.items():
        logged = {str(name).lower() for name in inside(one.message, key) or ()}
        missing = [name for name in read.get(column, ()) if name not in logged]
        if missing:
            message = f"does not log {', '.join(missing)}: the metrics that read it find nothing"
            yield warning(subject, message, f"add it to {key}", one.path)


def _exchanges(one: Typed) -> bool:
    """Whether it is such a filter, or the message without a type of its own that istiod packs it into."""
    return str(inside(one.message, "type_url") or inside(one.message, "@type")).endswith(_EXCHANGES)


def _peers(one: Typed) -> Iterator[Finding]:
    if _PEERS.isdisjoint(map(str, inside(one.message, "common_config", "filter_state_objects_to_log") or ())):
        message = "does not log who Istio's proxies say they are: the workload of the other side is not known"
        way_out = "add downstream_peer and upstream_peer to filter_state_objects_to_log (before Istio 1.24 with wasm.)"
        yield warning("Envoy's access log", message, way_out, one.path)


def _version(subject: str, message: object, path: str) -> Iterator[Finding]:
    version = inside(message, "transport_api_version")
    if version != "V3":
        yield fault(subject, f"speaks {version or 'no version'} of the API", "transport_api_version: V3", path)
    else:
        yield good(subject, "speaks V3 of the API", path)


def _timeout(subject: str, value: object, default: str, path: str) -> Iterator[Finding]:
    seconds = duration(value)
    if seconds is None:
        yield warning(subject, f"has no timeout of its own; the default is {default}", "say one, as 0.25s", path)
    elif seconds > _LONG or not seconds:
        yield warning(subject, f"may wait {seconds:g} s for an answer, 0 being for ever", "say one, as 0.25s", path)


def _targets(message: Mapping[str, Any]) -> Iterator[str]:
    services = (
        inside(message, "grpc_service"),
        inside(message, "rate_limit_service", "grpc_service"),
        inside(message, "common_config", "grpc_service"),
    )
    for service in services:
        name = inside(service, "envoy_grpc", "cluster_name")
        if isinstance(name, str):
            yield name


def _clusters(
    names: set[str], known: Mapping[str, Mapping[str, Any]], configuration: Configuration
) -> Iterator[Finding]:
    for name in sorted(names):
        subject = f"Envoy's cluster {name}"
        cluster = known.get(name)
        if cluster is None:
            yield fault(subject, "is not there", "define it, or mend cluster_name")
            continue
        yield from _cluster(subject, cluster, configuration)


def _cluster(subject: str, cluster: Mapping[str, Any], configuration: Configuration) -> Iterator[Finding]:
    options = inside(cluster, "typed_extension_protocol_options") or {}
    speaks = [inside(one, "explicit_http_config", "http2_protocol_options") for one in options.values()]
    if all(one is None for one in (*speaks, inside(cluster, "http2_protocol_options"))):
        yield fault(subject, "does not speak HTTP/2, which gRPC needs", "http2_protocol_options: {}")
    endpoints = [
        endpoint
        for locality in inside(cluster, "load_assignment", "endpoints") or ()
        for endpoint in inside(locality, "lb_endpoints") or ()
    ]
    yield from _breaker(subject, cluster, endpoints, configuration)
    workers = configuration.server.workers
    if workers > 1 and endpoints and len(endpoints) < _CONNECTIONS:
        message = f"has {len(endpoints)} endpoints: one connection a thread each, which {workers} workers do not share"
        yield warning(subject, message, f"let each endpoint stand there {_CONNECTIONS} times")
    yield from _addresses(subject, cluster, endpoints, configuration)


def _breaker(
    subject: str, cluster: Mapping[str, Any], endpoints: list[Any], configuration: Configuration
) -> Iterator[Finding]:
    """Whether Envoy stops where mixer would have to refuse; a number below that is somebody's wish."""
    thresholds = inside(cluster, "circuit_breakers", "thresholds") or [{}]
    chosen = [inside(one, "max_requests") for one in thresholds]
    most = max(_DEFAULT_MAX_REQUESTS if one is None else int(one) for one in chosen)
    hosts = [inside(one, "endpoint", "address", "socket_address") for one in endpoints]
    mixers = {(inside(one, "address"), inside(one, "port_value")) for one in hosts}
    if None not in chosen and not all(_is_one_host(address) for address, _ in mixers):
        return  # behind a name there may be many of them
    server = configuration.server
    held = server.max_waiting * server.workers * max(1, len(mixers))
    if most > held:
        message = f"has a circuit breaker at {most} calls, and mixer lets {held} wait: it has to refuse the rest"
        way_out = f"circuit_breakers: {{thresholds: [{{max_requests: {held}, max_pending_requests: {held}}}]}}"
        yield warning(subject, message, way_out)


def _is_one_host(address: str | None) -> bool:
    """Whether it is an address and no name; None stands for this very Envoy."""
    try:
        return address is None or bool(ip_address(address))
    except ValueError:
        return False


def _addresses(
    subject: str, cluster: Mapping[str, Any], endpoints: list[Any], configuration: Configuration
) -> Iterator[Finding]:
    """Whether an endpoint is an address of ours, and spoken to as that wants; on other machines that cannot be told."""
    server = configuration.server
    listeners = {one.address.port: one for one in server.listeners if one.address.is_tcp}
    named = {inside(one, "endpoint", "address", "socket_address", "port_value") for one in endpoints} - {None}
    ours = [listeners[port] for port in named & listeners.keys()]
    if named and listeners and not ours:
        asked, listened = (", ".join(map(str, sorted(some))) for some in (named, listeners))
        message = f"asks at port {asked}, and mixer listens at {listened}"
        yield warning(subject, message, "name the same on both sides, unless something stands between them")
        return
    encrypts = inside(cluster, "transport_socket") is not None
    for one in ours:
        if encrypts != (server.tls_of(one) is not None):
            message = f"speaks {'TLS' if encrypts else 'plaintext'}, and {one.address} does not"
            way_out = (
                "leave transport_socket out, or set server.tls" if encrypts else "give it a transport_socket with TLS"
            )
            yield fault(subject, message, way_out)
            return
    yield good(subject, "is where mixer listens" if ours else "is defined")

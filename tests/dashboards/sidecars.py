"""Envoys beside the two workloads of the mesh: what they carry, over what, and as whom they report."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from tests.parts.certificates import Certificate
from tests.parts.envoy_proxy import Bootstrap, manager, shipped

_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
_STATS = "envoy.filters.http.grpc_stats"
_STATS_TYPE = "type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig"
_TCP_LOG = "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig"
_TCP_PROXY = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"


@dataclass(frozen=True, slots=True)
class Identity:
    """Certificates of one workload, and of the one it talks to."""

    own: Certificate
    other: Certificate

    def upstream(self) -> dict[str, Any]:
        """What a cluster needs for mutual TLS."""
        return self._socket({"@type": _TLS + "UpstreamTlsContext"})

    def downstream(self) -> dict[str, Any]:
        """What a listener needs for it."""
        return self._socket({"@type": _TLS + "DownstreamTlsContext", "require_client_certificate": True})

    def _socket(self, context: dict[str, Any]) -> dict[str, Any]:
        chain, key, trusted = (
            {"filename": str(file)} for file in (self.own.certificate, self.own.key, self.other.certificate)
        )
        context["common_tls_context"] = {
            "tls_certificates": [{"certificate_chain": chain, "private_key": key}],
            "validation_context": {"trusted_ca": trusted},
        }
        return {"name": "tls", "typed_config": context}


@dataclass(frozen=True, slots=True)
class TcpRoute:
    """A TCP service that a proxy carries: where it takes connections, and where to."""

    service: str
    port: int
    upstream: int


def node(workload: str) -> dict[str, Any]:
    """What Istio writes into the node of a workload's proxy, as far as mixer reads it."""
    labels = {"app": workload, "version": "v1", "service.istio.io/canonical-name": workload}
    metadata = {
        "NAME": f"{workload}-0", "NAMESPACE": "shop", "WORKLOAD_NAME": workload, "CLUSTER_ID": "main", "LABELS": labels,
    }  # fmt: skip
    return {"id": f"sidecar~127.0.0.1~{workload}-0.shop~shop.svc", "cluster": workload, "metadata": metadata}


def beside_the_client(identity: Identity, secure: TcpRoute, plain: TcpRoute) -> Bootstrap:
    """The shipped configuration, with two TCP services, and mixer itself as a gRPC service.

    Its cluster `reviews` and `secure` speak mutual TLS.
    """
    bootstrap = shipped()
    bootstrap["node"] = node("edge")
    http = manager(bootstrap)
    http["access_log_options"] = {"flush_access_log_on_new_request": True}
    http["http_filters"].insert(0, {"name": _STATS, "typed_config": {"@type": _STATS_TYPE, "emit_filter_state": True}})
    common = http["access_log"][0]["typed_config"]["common_config"]
    common["filter_state_objects_to_log"] = [_STATS]
    common["custom_tags"] = [{"tag": "destination.principal", "value": "%UPSTREAM_PEER_URI_SAN%"}]
    routes = http["route_config"]["virtual_hosts"][0]["routes"]
    routes.insert(0, {"match": {"prefix": "/grpc.health.v1.Health/"}, "route": {"cluster": "mixer"}})
    for cluster in bootstrap["static_resources"]["clusters"]:
        if cluster["name"] == "reviews":
            cluster["transport_socket"] = identity.upstream()
    _, cluster = _carry_tcp(bootstrap, secure)
    cluster["transport_socket"] = identity.upstream()
    _carry_tcp(bootstrap, plain)
    return bootstrap


def beside_the_server(identity: Identity, plain_http: int, secure: TcpRoute, plain: TcpRoute) -> Bootstrap:
    """It hands what the other one sends to the services: HTTP over mutual TLS, in plain text on `plain_http`; TCP."""
    bootstrap = shipped()
    bootstrap["node"] = node("reviews-v1")
    http = manager(bootstrap)
    http["http_filters"] = http["http_filters"][-1:]  # the router alone: what it gets was decided on before
    http["access_log"][0]["typed_config"]["common_config"]["log_name"] = "inbound"
    for route in http["route_config"]["virtual_hosts"][0]["routes"]:
        route["route"].pop("rate_limits", None)
    listeners = bootstrap["static_resources"]["listeners"]
    listeners.append({**copy.deepcopy(listeners[0]), "name": "plain", "address": _here(plain_http)})
    listeners[0]["filter_chains"][0]["transport_socket"] = identity.downstream()
    listener, _ = _carry_tcp(bootstrap, secure)
    listener["filter_chains"][0]["transport_socket"] = identity.downstream()
    _carry_tcp(bootstrap, plain)
    return bootstrap


def _carry_tcp(bootstrap: Bootstrap, route: TcpRoute) -> tuple[dict[str, Any], dict[str, Any]]:
    """Adds listener and cluster, and returns them. It reports openings, every half second, and ends."""
    resources = bootstrap["static_resources"]
    common = manager(bootstrap)["access_log"][0]["typed_config"]["common_config"]
    log = {
        "name": "envoy.access_loggers.tcp_grpc", "typed_config": {"@type": _TCP_LOG, "common_config": common},
    }  # fmt: skip
    proxy = {
        "@type": _TCP_PROXY,
        "stat_prefix": route.service,
        "cluster": route.service,
        "access_log": [log],
        "access_log_options": {"access_log_flush_interval": "0.5s", "flush_access_log_on_connected": True},
    }
    chain = {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}
    listener = {"name": route.service, "address": _here(route.port), "filter_chains": [chain]}
    endpoint = {"endpoint": {"address": _here(route.upstream)}}
    cluster = {
        "name": route.service,
        "type": "STATIC",
        "load_assignment": {"cluster_name": route.service, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    resources["listeners"].append(listener)
    resources["clusters"].append(cluster)
    return listener, cluster


def _here(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

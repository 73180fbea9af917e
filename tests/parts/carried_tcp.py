"""The shipped configuration of Envoy, made to carry TCP."""

from __future__ import annotations

from typing import Any, Final

from tests.parts.envoy_proxy import Bootstrap

CLUSTER: Final = "outbound|9000||ledger.bank.svc.cluster.local"


def carry_tcp(bootstrap: Bootstrap, upstream: int) -> None:
    """The shipped configuration with a TCP proxy that reports openings, every half second, and ends."""
    resources = bootstrap["static_resources"]
    (http,) = resources["listeners"][0]["filter_chains"][0]["filters"]
    common = http["typed_config"]["access_log"][0]["typed_config"]["common_config"]
    reviews = next(cluster for cluster in resources["clusters"] if cluster["name"] == "reviews")
    reviews["name"] = CLUSTER
    endpoint = reviews["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    endpoint["address"]["socket_address"].update(address="127.0.0.1", port_value=upstream)
    log: dict[str, Any] = {
        "name": "envoy.access_loggers.tcp_grpc",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig",
            "common_config": common,
        },
    }
    proxy = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "tcp",
        "cluster": CLUSTER,
        "access_log": [log],
        "access_log_options": {
            "access_log_flush_interval": "0.5s",
            "flush_access_log_on_start": True,
            "flush_access_log_on_connected": True,
        },
    }
    resources["listeners"][0]["filter_chains"][0]["filters"] = [
        {"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}
    ]

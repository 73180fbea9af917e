"""Envoys for benchmarks: a service that answers, the shipped configurations before it, and the same without mixer.

Not for: what is sent through them (`fixed_rates.py`).
"""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

from servers import HERE, Server, free_port

from mixer_py.demo import envoy
from mixer_py.envoy_parts import find_envoy

SHIPPED = HERE.parent / "deploy" / "envoy" / "envoy.yaml"
SHIPPED_INSIDE = HERE.parent / "deploy" / "envoy-inside" / "envoy.yaml"
_PATIENCE = "10s"
"""Instead of the shipped timeouts: what takes long is to be measured and not cut off."""
_ANSWER = (
    '{"id": 7, "reviews": [' + ", ".join(f'{{"reviewer": "r{number}", "stars": 5}}' for number in range(30)) + "]}"
)

Bootstrap = dict[str, Any]


class Envoy(Server):
    """An Envoy with some configuration, while the block runs."""

    def __init__(self, name: str, bootstrap: Bootstrap, port: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mixer-bench-")  # ends with this object
        path = Path(self._folder.name) / "envoy.json"
        envoy.write_bootstrap(bootstrap, path)
        super().__init__(name, envoy.command(find_envoy(), path), f"127.0.0.1:{port}")


def service() -> Envoy:
    """What stands behind the proxies: an Envoy that answers by itself, so that no Python is measured with it."""
    port = free_port()
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": _ANSWER}}}
    bootstrap = _shipped()
    manager = _manager(bootstrap)
    _without_mixer(bootstrap)
    manager["route_config"]["virtual_hosts"][0]["routes"] = [route]
    bootstrap["static_resources"]["clusters"] = []
    return Envoy("service", envoy.relocate(bootstrap, listener=port, clusters={}), port)


def proxy(name: str, behind: str, mixer: str | None, logs: str = "") -> Envoy:
    """An Envoy before the service, as shipped or without mixer.

    Args:
        name: for people.
        behind: `host:port` of the service.
        mixer: `host:port` of the mixer that it asks; None for none.
        logs: `host:port` where that mixer takes log entries, where it is another.
    """
    port, upstream = free_port(), _port(behind)
    bootstrap = _shipped()
    clusters = {"reviews": upstream, "ratings": upstream}
    if mixer is None:
        _without_mixer(bootstrap)
    else:
        clusters["mixer"] = _port(mixer)
    if logs:
        clusters["mixer-logs"] = _port(logs)
        _log_elsewhere(bootstrap, "mixer-logs")
    return Envoy(name, envoy.relocate(bootstrap, listener=port, clusters=clusters), port)


def around_mixer(port: int, behind: str, logs: str) -> Bootstrap:
    """The shipped bootstrap of an Envoy with mixer inside.

    Args:
        port: where traffic comes in.
        behind: `host:port` of the service.
        logs: `host:port` where mixer takes log entries.
    """
    clusters = {"reviews": _port(behind), "ratings": _port(behind), "mixer-logs": _port(logs)}
    return envoy.relocate(_shipped(SHIPPED_INSIDE), listener=port, clusters=clusters)


def _shipped(file: Path = SHIPPED) -> Bootstrap:
    bootstrap = copy.deepcopy(envoy.read_bootstrap(file))
    for one in _manager(bootstrap)["http_filters"]:
        if one["name"] == "envoy.filters.http.ext_authz":
            grpc = one["typed_config"]["grpc_service"]
            grpc["timeout"] = _PATIENCE
            if "retry_policy" in grpc:
                grpc["retry_policy"]["retry_back_off"]["max_interval"] = _PATIENCE
        elif one["name"] == "envoy.filters.http.ratelimit":
            one["typed_config"]["timeout"] = _PATIENCE
    return bootstrap


def _without_mixer(bootstrap: Bootstrap) -> None:
    """Takes out both filters, the access log and the cluster."""
    manager = _manager(bootstrap)
    manager["http_filters"] = [one for one in manager["http_filters"] if one["name"].endswith(".router")]
    del manager["access_log"]
    for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
        route["route"].pop("rate_limits", None)
    resources = bootstrap["static_resources"]
    resources["clusters"] = [one for one in resources["clusters"] if one["name"] != "mixer"]


def _log_elsewhere(bootstrap: Bootstrap, name: str) -> None:
    """Sends log entries to a cluster of their own, which is otherwise that of mixer."""
    clusters = bootstrap["static_resources"]["clusters"]
    (mixer,) = [one for one in clusters if one["name"] == "mixer"]
    logs = copy.deepcopy(mixer)
    logs["name"] = logs["load_assignment"]["cluster_name"] = name
    clusters.append(logs)
    common = _manager(bootstrap)["access_log"][0]["typed_config"]["common_config"]
    common["grpc_service"]["envoy_grpc"]["cluster_name"] = name


def _manager(bootstrap: Bootstrap) -> dict[str, Any]:
    found: dict[str, Any] = bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0][
        "typed_config"
    ]
    return found


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])

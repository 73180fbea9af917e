"""Envoys for benchmarks: a service that answers, the shipped configuration before it, and the same without mixer.

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


def proxy(name: str, behind: str, mixer: str | None) -> Envoy:
    """An Envoy before the service, as shipped or without mixer.

    Args:
        name: for people.
        behind: `host:port` of the service.
        mixer: `host:port` of the mixer that it asks; None for none.
    """
    port, upstream = free_port(), _port(behind)
    bootstrap = _shipped()
    clusters = {"reviews": upstream, "ratings": upstream}
    if mixer is None:
        _without_mixer(bootstrap)
    else:
        clusters["mixer"] = _port(mixer)
    return Envoy(name, envoy.relocate(bootstrap, listener=port, clusters=clusters), port)


def _shipped() -> Bootstrap:
    bootstrap = copy.deepcopy(envoy.read_bootstrap(SHIPPED))
    for one in _manager(bootstrap)["http_filters"]:
        if one["name"] == "envoy.filters.http.ext_authz":
            grpc = one["typed_config"]["grpc_service"]
            grpc["timeout"] = grpc["retry_policy"]["retry_back_off"]["max_interval"] = _PATIENCE
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


def _manager(bootstrap: Bootstrap) -> dict[str, Any]:
    found: dict[str, Any] = bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0][
        "typed_config"
    ]
    return found


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])

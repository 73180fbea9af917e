"""An Envoy with mixer inside: deploy/envoy-inside/envoy.yaml moved to free ports, started by a real mixer."""

from __future__ import annotations

import copy
import json
from typing import Any

from mixer_py.demo import envoy
from mixer_py.demo.processes import Ports
from tests.parts.envoy_proxy import Bootstrap, http_filter, manager
from tests.parts.http_client import Response, request
from tests.parts.mixer_process import Mixer
from tests.parts.presence import ROOT
from tests.parts.upstream import Upstream

FOLDER = ROOT / "deploy" / "envoy-inside"
_PATIENCE = "20s"
"""Instead of the shipped timeouts: a machine that runs a whole test suite is no measure."""


def shipped() -> Bootstrap:
    """The file as it stands."""
    return envoy.read_bootstrap(FOLDER / "envoy.yaml")


class Inside:
    """A mixer and the Envoy around it."""

    def __init__(self, mixer: Mixer, ports: Ports, upstream: Upstream, threads: int = 1) -> None:
        self.mixer = mixer
        self.threads = threads
        self.port = ports.take()
        self.logs = ports.take()
        self._upstream = upstream.port

    @property
    def server(self) -> dict[str, Any]:
        """`server` of mixer's configuration."""
        listeners = [
            {"address": "internal://mixer", "transport": "envoy"},
            {"address": f"127.0.0.1:{self.logs}", "services": ["access_log"]},
        ]
        return {"data_plane": {"bootstrap": "envoy.yaml", "threads": self.threads}, "listeners": listeners}

    def write_bootstrap(self) -> None:
        """Writes the shipped file beside mixer's configuration: on its ports, patient, and quick with its log."""
        bootstrap = shipped()
        http_filter(bootstrap, "ext_authz")["grpc_service"]["timeout"] = _PATIENCE
        http_filter(bootstrap, "ratelimit")["timeout"] = _PATIENCE
        manager(bootstrap)["access_log"][0]["typed_config"]["common_config"]["buffer_flush_interval"] = "0.1s"
        routes = manager(bootstrap)["route_config"]["virtual_hosts"][0]["routes"]
        routes.append({**copy.deepcopy(routes[0]), "match": {"prefix": "/"}, "name": "everything"})
        clusters = {"reviews": self._upstream, "ratings": self._upstream, "mixer-logs": self.logs}
        moved = envoy.relocate(bootstrap, listener=self.port, clusters=clusters)
        self.mixer.write("envoy.yaml", json.dumps(moved))

    def request(self, path: str = "/reviews", *, method: str = "GET", tenant: str = "") -> Response:
        """Sends a request through it, on a connection of its own."""
        headers = [("x-tenant", tenant)] if tenant else []
        return request(self.port, path, method=method, headers=headers)

"""A real Envoy between a client and the upstream, with the shipped configuration moved to this machine's free ports."""

from __future__ import annotations

import copy
import signal
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mixer_py.demo import envoy
from mixer_py.demo.processes import Ports, Program, accepts
from mixer_py.envoy_parts import find_envoy
from tests.parts.http_client import Response, request
from tests.parts.presence import ROOT
from tests.parts.programs import Programs

SHIPPED = ROOT / "deploy" / "envoy" / "envoy.yaml"
Bootstrap = dict[str, Any]

_PATIENCE = "20s"
"""Instead of the shipped timeouts: a machine that runs a whole test suite is no measure."""


def manager(bootstrap: Bootstrap) -> dict[str, Any]:
    """The HTTP connection manager's configuration."""
    listener = bootstrap["static_resources"]["listeners"][0]
    found: dict[str, Any] = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return found


def http_filter(bootstrap: Bootstrap, name: str) -> dict[str, Any]:
    """One HTTP filter's configuration, by the last part of its name."""
    for candidate in manager(bootstrap)["http_filters"]:
        if candidate["name"].endswith(f".{name}"):
            found: dict[str, Any] = candidate["typed_config"]
            return found
    raise LookupError(name)


def shipped() -> Bootstrap:
    """deploy/envoy/envoy.yaml, but patient, and quick with its log and its health checks."""
    bootstrap = envoy.read_bootstrap(SHIPPED)
    service = http_filter(bootstrap, "ext_authz")["grpc_service"]
    service["timeout"] = service["retry_policy"]["retry_back_off"]["max_interval"] = _PATIENCE
    http_filter(bootstrap, "ratelimit")["timeout"] = _PATIENCE
    manager(bootstrap)["access_log"][0]["typed_config"]["common_config"]["buffer_flush_interval"] = "0.1s"
    for cluster in bootstrap["static_resources"]["clusters"]:
        for check in cluster.get("health_checks", ()):
            check.update(interval="0.5s", no_traffic_interval="0.5s", timeout="10s")
    routes = manager(bootstrap)["route_config"]["virtual_hosts"][0]["routes"]
    everything = copy.deepcopy(routes[0])
    everything.update(match={"prefix": "/"}, name="everything")
    routes.append(everything)
    return bootstrap


def keep_paths(bootstrap: Bootstrap) -> None:
    """Lets paths through byte for byte, as opa-envoy-plugin's cases need them."""
    connection_manager = manager(bootstrap)
    connection_manager["normalize_path"] = False
    connection_manager["merge_slashes"] = False
    connection_manager["path_with_escaped_slashes_action"] = "KEEP_UNCHANGED"


class EnvoyProxy:
    """One Envoy."""

    def __init__(
        self, programs: Programs, ports: Ports, *, mixer: int | Sequence[int], upstream: int, **services: int
    ) -> None:
        """`mixer`: its port, or those of several; `services`: ports of clusters that are not the upstream's."""
        self._programs = programs
        self.port = ports.take()
        self.admin = ports.take()
        self._clusters: dict[str, int | Sequence[int]] = {
            "mixer": mixer,
            "reviews": upstream,
            "ratings": upstream,
            **services,
        }
        self.program: Program | None = None

    def start(self, bootstrap: Bootstrap | None = None, *, edit: Callable[[Bootstrap], None] | None = None) -> None:
        """Starts it with the shipped configuration, or another, moved to its ports; returns when it accepts."""
        bootstrap = shipped() if bootstrap is None else copy.deepcopy(bootstrap)
        if edit is not None:
            edit(bootstrap)
        moved = envoy.relocate(bootstrap, listener=self.port, clusters=self._clusters, admin=self.admin)
        path = self._programs.folder / f"envoy-{self.port}.json"
        envoy.write_bootstrap(moved, path)
        command = envoy.command(find_envoy(), path)
        self.program = self._programs.start(f"envoy-{self.port}", command, death_signal=signal.SIGKILL)
        self.program.wait_until(lambda: accepts(self.port))

    def request(
        self, path: str = "/", *, method: str = "GET", headers: Iterable[tuple[str, str]] = (), body: bytes = b""
    ) -> Response:
        """Sends a request through it."""
        return request(self.port, path, method=method, headers=headers, body=body)

    def stats(self, prefix: str) -> dict[str, int]:
        """Its counters whose names contain `prefix`."""
        text = request(self.admin, f"/stats?filter={prefix}").body.decode()
        pairs = (line.rpartition(": ") for line in text.splitlines())
        return {name: int(value) for name, _, value in pairs if value.isdigit()}

"""Mixers, Envoys and policies for tests from outside."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mixer_py.demo.processes import Ports
from tests.parts.echo import Echo
from tests.parts.envoy_proxy import EnvoyProxy
from tests.parts.mixer_process import Mixer
from tests.parts.programs import Programs
from tests.parts.upstream import Upstream

MakeMixer = Callable[..., Mixer]
MakeEnvoy = Callable[[Mixer], EnvoyProxy]

ALLOW_ALL = "package envoy.authz\n\nallow := true\n"

# With `loop` in the path, minutes of work for the engine.
LOOPING = """
package envoy.authz

import rego.v1

default allow := false

allow if input.parsed_path[0] != "loop"

allow if {
    input.parsed_path[0] == "loop"
    count([1 | some i in numbers.range(1, 10000); some j in numbers.range(1, 10000); i * j == 0]) == 0
}
"""

TENANTS_ONLY = """
package envoy.authz

import rego.v1

default allow := {"allowed": false, "reasons": ["not a reader", "ask the owner of reviews"]}

allow := true if input.attributes.request.http.headers["x-tenant"]
"""

NO_ROWS: Mapping[str, Any] = {"clickhouse": None}
"""`telemetry` of tests that look at no row: to start chDB costs almost as much as all else that a mixer does then."""

LIMITS = """
domain: mesh
descriptors:
  - key: tenant
    value: acme
    descriptors:
      - key: service
        value: reviews
        rate_limit: {unit: day, requests_per_unit: 3}
  - key: tenant
    value: umbrella
    descriptors:
      - key: service
        rate_limit: {unit: day, requests_per_unit: 1}
  - key: tenant
    descriptors:
      - key: service
        rate_limit: {unit: day, requests_per_unit: 1000000}
"""


def settings(folder: Path, **rooms: Any) -> dict[str, Any]:
    """A configuration with chDB, the policies in `policy/` and the limits in `limits.yaml`."""
    own = {"decision_log": rooms["decision_log"]} if "decision_log" in rooms else {}
    return {
        "policy": {"bundles": ["policy"], **rooms.get("policy", {})},
        "rate_limit": {"config": ["limits.yaml"], **rooms.get("rate_limit", {})},
        "telemetry": {"clickhouse": {"url": f"chdb://{folder}/chdb"}, **rooms.get("telemetry", {})},
        "server": rooms.get("server", {}),
        **own,
    }


def _make_mixer(programs: Programs, ports: Ports, folder: Path) -> MakeMixer:
    def make(rego: str = ALLOW_ALL, **rooms: Any) -> Mixer:
        mixer = Mixer(programs, ports, folder)
        mixer.write("policy/policy.rego", rego)
        mixer.write("limits.yaml", LIMITS)
        mixer.configure(settings(folder, **rooms))
        return mixer

    return make


@pytest.fixture
def make_mixer(programs: Programs, ports: Ports, tmp_path: Path) -> MakeMixer:
    """Makes a mixer with its files written, not yet started; ended with the test."""
    return _make_mixer(programs, ports, tmp_path)


@pytest.fixture(scope="module")
def make_module_mixer(module_programs: Programs, ports: Ports, tmp_path_factory: pytest.TempPathFactory) -> MakeMixer:
    """The same, ended with the module."""
    return _make_mixer(module_programs, ports, tmp_path_factory.mktemp("mixer"))


@pytest.fixture
def make_envoy(programs: Programs, ports: Ports, upstream: Upstream) -> MakeEnvoy:
    """Makes an Envoy before the echoing upstream, not yet started; ended with the test."""
    return lambda mixer: EnvoyProxy(programs, ports, mixer=mixer.grpc, upstream=upstream.port)


@pytest.fixture(scope="module")
def make_module_envoy(module_programs: Programs, ports: Ports, upstream: Upstream) -> MakeEnvoy:
    """The same, ended with the module."""
    return lambda mixer: EnvoyProxy(module_programs, ports, mixer=mixer.grpc, upstream=upstream.port)


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    """A TCP server that sends back what it gets."""
    with Echo() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def envoy(make_module_envoy: MakeEnvoy, mixer: Mixer) -> EnvoyProxy:
    """As shipped, before the `mixer` that a module has for all its tests."""
    envoy = make_module_envoy(mixer)
    envoy.start()
    return envoy

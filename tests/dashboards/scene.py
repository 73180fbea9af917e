"""The traffic that dashboards are asked about: something of everything that a panel shows and that can be had cheaply.

Readers are let through, others denied; one tenant is over a limit, one over a quota; a policy error; a failure
upstream; a candidate that is stricter; counters in a Valkey, with leases; rows that may go to a spool.
"""

from __future__ import annotations

import socket
from pathlib import Path

from envoy.service.accesslog.v3 import als_pb2
from grpc_health.v1.health_pb2 import HealthCheckResponse

from mixer_py.demo.processes import Ports
from tests.dashboards.mesh import Mesh, talk
from tests.parts.grpc_client import Client, check_request, connect
from tests.parts.mixer_process import Mixer, eventually
from tests.parts.programs import Programs
from tests.parts.valkey import Valkey

POLICY = """package envoy.authz

http := input.attributes.request.http

default allow := {"allowed": false, "http_status": 403, "reasons": ["only GET"]}

allow := {"allowed": true, "reasons": ["readers may read"]} if http.method == "GET"

allow := {"allowed": true, "reasons": ["anybody may ask"]} if {
    startswith(http.path, "/grpc.health.v1.Health/")
}

allow := "no result at all" if http.path == "/ratings/conflict"
"""
CANDIDATE = """package envoy.authz

allow := {"allowed": input.parsed_path[0] == "reviews", "reasons": ["only reviews"]}
"""
LIMITS = """
domain: mesh
descriptors:
  - key: tenant
    value: umbrella
    descriptors:
      - {key: service, rate_limit: {unit: day, requests_per_unit: 1}}
  - key: tenant
    descriptors:
      - {key: service, rate_limit: {unit: day, requests_per_unit: 1000, lease: 10}}
"""
QUOTAS = [
    {"name": "per-tenant", "match": '"x-tenant" in request.headers', "key": ['request.headers["x-tenant"]'],
     "limit": "1000 / 1h"},
    {"name": "small", "match": 'request.headers["x-tenant"] == "small"', "limit": "1 / 1h"},
    {"name": "tokens", "match": '"x-tokens" in request.headers', "cost": 'int(request.headers["x-tokens"])',
     "limit": "1000 / 1h", "on_expression_error": "skip"},
]  # fmt: skip
ENVOY = als_pb2.StreamAccessLogsMessage(identifier=als_pb2.StreamAccessLogsMessage.Identifier(log_name="outbound"))
SERVING = HealthCheckResponse.SERVING
MALFORMED = bytes.fromhex("12040a020aff")
"""A message with one HTTP entry whose `common_properties` end before they are long enough."""


def prepare(programs: Programs, ports: Ports, folder: Path) -> Mixer:
    """A mixer with its files, started."""
    mixer = Mixer(programs, ports, folder)
    mixer.write("policy/policy.rego", POLICY)
    mixer.write("candidate/policy.rego", CANDIDATE)
    mixer.write("limits.yaml", LIMITS)
    mixer.configure({
        "policy": {"bundles": ["policy"], "shadow": {"bundles": ["candidate"], "share": 1.0, "timeout": "10s"}},
        "rate_limit": {
            "config": ["limits.yaml"], "quotas": QUOTAS, "store": Valkey(programs, ports).uri, "timeout": "10s",
        },
        "telemetry": {
            "clickhouse": {"url": f"chdb://{folder}/chdb"},
            "spool": {"directory": str(folder / "spool"), "mode": "overflow"},
        },
    })  # fmt: skip
    mixer.start()
    with connect(mixer.address) as client:
        eventually(lambda: _candidate_speaks(mixer, client), "a verdict of the candidate", 120)
    return mixer


def _candidate_speaks(mixer: Mixer, client: Client) -> bool:
    """Asks for a decision whose request nobody reports, and says whether the candidate has ever answered one."""
    client.check(check_request("/reviews/5"))
    return mixer.metric("mixer_shadow_checks_total", shadow="allow") > 0


def play(mesh: Mesh, rounds: int) -> None:
    """The traffic, in rounds over several scrapes so that there are rates to show."""
    for number in range(rounds):
        for port in mesh.tcp_ports:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                talk(connection)
        for service in ("reviews", "ratings"):
            assert mesh.call(f"/{service}/1", x_tenant="acme") == 200
            assert mesh.call(f"/{service}/1", method="POST") == 403
            assert mesh.call(f"/{service}/2", x_tenant="umbrella") == (429 if number else 200)
        assert mesh.call_grpc() == SERVING
        assert mesh.call("/break/1") == 503
        assert mesh.call("/ratings/conflict") == 403
        assert mesh.call("/reviews/3", x_tenant="small") == (429 if number else 200)
        assert mesh.call("/reviews/4", x_tokens="several") == 200  # no number: an expression without a value
        with connect(mesh.mixer.address) as client:
            client.log([ENVOY, MALFORMED])
            client.check(check_request("/reviews/5"))
        mesh.settle()
    mesh.settle_rows()

"""A small mesh that Istio's words fit: two workloads, each with a real Envoy beside it, one mixer, one Prometheus.

    client ─▶ Envoy beside `edge` ──mutual TLS: /reviews, ledger (TCP)──▶ Envoy beside `reviews-v1` ─▶ echoing services
                                  └──plain text: /ratings, vault (TCP)──▶

Both Envoys report, so that each request and connection is told by its source and by its destination. The first one asks
mixer for decisions and for quota.
"""

from __future__ import annotations

import json
import socket
import time
import urllib.parse
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mixer_py.demo.processes import Ports
from tests.dashboards.sidecars import Identity, TcpRoute, beside_the_client, beside_the_server
from tests.parts.certificates import make_certificate
from tests.parts.envoy_proxy import EnvoyProxy
from tests.parts.http_client import request
from tests.parts.mixer_process import Mixer, eventually
from tests.parts.presence import ROOT, find_server
from tests.parts.programs import Programs

SCRAPE = 1.0
"""Seconds between two scrapes."""
_PATIENCE = 120.0
_RULES = ROOT / "deploy" / "prometheus"


class Prometheus:
    """A real one that scrapes mixer with the shipped rules, but sooner."""

    def __init__(self, programs: Programs, ports: Ports, folder: Path, target: str) -> None:
        """Starts it; `target` is mixer's admin address."""
        self.port = ports.take()
        settings = {
            "global": {"scrape_interval": f"{SCRAPE:g}s", "evaluation_interval": f"{SCRAPE:g}s"},
            "rule_files": [str(_RULES / "recording.yml"), str(_RULES / "alerts.yml")],
            "scrape_configs": [{"job_name": "mixer", "static_configs": [{"targets": [target]}]}],
        }
        file = folder / "prometheus.json"
        file.write_text(json.dumps(settings), encoding="utf-8")
        program = find_server("prometheus")
        assert program is not None
        command = (
            program, f"--config.file={file}", f"--storage.tsdb.path={folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{self.port}",
        )  # fmt: skip
        programs.start("prometheus", command).wait_until(self._is_ready)

    def _is_ready(self) -> bool:
        try:
            return request(self.port, "/-/ready").status == 200
        except OSError:
            return False

    def get(self, path: str, **parameters: object) -> Any:
        """The `data` of an answer of its API.

        Raises:
            AssertionError: it refused; the message is Prometheus's.
        """
        response = request(self.port, f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        answer = json.loads(response.body)
        assert response.status == 200, f"{answer.get('error')}: {parameters}"
        return answer["data"]

    def now(self, query: str) -> list[dict[str, Any]]:
        """An instant query's series."""
        found: list[dict[str, Any]] = self.get("query", query=query)["result"]
        return found


class Mesh:
    """The running whole.

    Attributes:
        mixer: the one that both Envoys ask and report to.
        prometheus: scrapes it.
        start, end: when the traffic began, and when all of it had been scraped.
    """

    def __init__(self, programs: Programs, ports: Ports, mixer: Mixer, *, http: int, tcp: int) -> None:
        """`http`, `tcp`: ports of the services."""
        self.mixer = mixer
        self._sent = 0
        uri = "spiffe://cluster.local/ns/shop/sa/"
        edge, reviews = (make_certificate(mixer.folder, name, uri=uri + name) for name in ("edge", "reviews-v1"))
        plain_http, *taken = (ports.take() for _ in range(5))
        inbound = TcpRoute("ledger", taken[0], tcp), TcpRoute("vault", taken[1], tcp)
        self._server = EnvoyProxy(programs, ports, mixer=mixer.grpc, upstream=http)
        self._server.start(beside_the_server(Identity(reviews, edge), plain_http, *inbound))
        self.tcp_ports = taken[2], taken[3]
        outbound = TcpRoute("ledger", taken[2], taken[0]), TcpRoute("vault", taken[3], taken[1])
        self._client = EnvoyProxy(
            programs, ports, mixer=mixer.grpc, upstream=http, reviews=self._server.port, ratings=plain_http
        )
        self._client.start(beside_the_client(Identity(edge, reviews), *outbound))
        self.prometheus = Prometheus(programs, ports, mixer.folder, f"127.0.0.1:{mixer.admin}")
        self.start = time.time()
        self.end = self.start

    def call(self, path: str, *, method: str = "GET", **headers: str) -> int:
        """Sends a request as the client, to the host that the path begins with; returns its status."""
        self._sent += 1
        host = f"{path.split('/')[1]}.shop.svc.cluster.local"
        pairs = [("host", host), *((name.replace("_", "-"), value) for name, value in headers.items())]
        return self._client.request(path, method=method, headers=pairs).status

    def call_grpc(self) -> int:
        """Asks a gRPC service for its health as the client; returns what it says."""
        self._sent += 1
        with grpc.insecure_channel(f"127.0.0.1:{self._client.port}") as channel:
            ask = health_pb2_grpc.HealthStub(channel).Check
            status: int = ask(health_pb2.HealthCheckRequest(), timeout=60).status
        return status

    def settle(self) -> None:
        """Returns when Prometheus has seen the last request, and another scrape can have been after it."""
        query = 'sum(istio_requests_total{reporter="source"})'
        eventually(
            lambda: [series["value"][1] for series in self.prometheus.now(query)] == [str(self._sent)],
            f"{self._sent} requests in Prometheus",
            _PATIENCE,
        )
        time.sleep(SCRAPE * 1.5)
        self.end = time.time()

    def settle_rows(self) -> None:
        """Returns when every request is a row, and no row waits."""
        sql = "SELECT count() AS rows FROM requests WHERE reporter = 'source'"
        eventually(
            lambda: int(self.mixer.rows(sql)[0]["rows"]) == self._sent and self.mixer.metric("mixer_queue_rows") == 0,
            f"{self._sent} rows",
            _PATIENCE,
        )

    def shows(self, query: str) -> bool:
        """Whether a graph of the query over the time of the traffic has a point; NaN is none."""
        matrix = self.prometheus.get("query_range", query=query, start=self.start, end=self.end, step=1)["result"]
        return any(value != "NaN" for series in matrix for _, value in series["values"])


def talk(connection: socket.socket, chunk: bytes = b"x" * 1000) -> None:
    """Sends over a TCP connection and waits for the echo."""
    connection.sendall(chunk)
    left = len(chunk)
    while left:
        left -= len(connection.recv(left))

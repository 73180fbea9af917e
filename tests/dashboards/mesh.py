"""A small mesh that Istio's words fit: two workloads, each with a real Envoy beside it, one mixer, one Prometheus.

    client ─▶ Envoy beside `edge` ──mutual TLS──▶ Envoy beside `reviews-v1` ─▶ the echoing service
                                  └──plain text──▶

Both Envoys report, so each request is told by its source and by its destination. /reviews goes over mutual TLS,
/ratings in plain text.
"""

from __future__ import annotations

import copy
import json
import time
import urllib.parse
from pathlib import Path
from typing import Any

from mixer_py.demo.processes import Ports
from tests.parts.certificates import Certificate, make_certificate
from tests.parts.envoy_proxy import Bootstrap, EnvoyProxy, manager, shipped
from tests.parts.http_client import request
from tests.parts.mixer_process import Mixer, eventually
from tests.parts.presence import find_server
from tests.parts.programs import Programs

SERVICES = ("reviews", "ratings")
_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
_PATIENCE = 120.0


def spiffe(workload: str) -> str:
    return f"spiffe://cluster.local/ns/shop/sa/{workload}"


def node(workload: str) -> dict[str, Any]:
    """What Istio writes into the node of a workload's proxy, as far as mixer reads it."""
    labels = {"app": workload, "version": "v1", "service.istio.io/canonical-name": workload}
    metadata = {
        "NAME": f"{workload}-0", "NAMESPACE": "shop", "WORKLOAD_NAME": workload, "CLUSTER_ID": "main", "LABELS": labels,
    }  # fmt: skip
    return {"id": f"sidecar~127.0.0.1~{workload}-0.shop~shop.svc", "cluster": workload, "metadata": metadata}


def _certificates(own: Certificate, other: Certificate) -> dict[str, Any]:
    return {
        "tls_certificates": [
            {"certificate_chain": {"filename": str(own.certificate)}, "private_key": {"filename": str(own.key)}}
        ],
        "validation_context": {"trusted_ca": {"filename": str(other.certificate)}},
    }


def beside_the_client(own: Certificate, other: Certificate) -> Bootstrap:
    """The shipped configuration; its cluster `reviews` speaks mutual TLS."""
    bootstrap = shipped()
    bootstrap["node"] = node("edge")
    for cluster in bootstrap["static_resources"]["clusters"]:
        if cluster["name"] == "reviews":
            context = {"@type": _TLS + "UpstreamTlsContext", "common_tls_context": _certificates(own, other)}
            cluster["transport_socket"] = {"name": "tls", "typed_config": context}
    return bootstrap


def beside_the_server(own: Certificate, other: Certificate, plain: int) -> Bootstrap:
    """Two listeners that hand to the service and report as its proxy: mutual TLS, and plain text on port `plain`."""
    bootstrap = shipped()
    bootstrap["node"] = node("reviews-v1")
    bootstrap.pop("overload_manager")
    http = manager(bootstrap)
    http["http_filters"] = http["http_filters"][-1:]  # the router alone: what it gets was decided on before
    http["access_log"][0]["typed_config"]["common_config"]["log_name"] = "inbound"
    for route in http["route_config"]["virtual_hosts"][0]["routes"]:
        route["route"].pop("rate_limits", None)
    listeners = bootstrap["static_resources"]["listeners"]
    listeners.append(copy.deepcopy(listeners[0]))
    context = {"@type": _TLS + "DownstreamTlsContext", "require_client_certificate": True}
    context["common_tls_context"] = _certificates(own, other)
    listeners[0]["filter_chains"][0]["transport_socket"] = {"name": "tls", "typed_config": context}
    listeners[1]["name"] = "plain"
    listeners[1]["address"] = {"socket_address": {"address": "127.0.0.1", "port_value": plain}}
    return bootstrap


class Prometheus:
    """A real one that scrapes mixer every second with the shipped rules."""

    def __init__(self, programs: Programs, ports: Ports, folder: Path, settings: dict[str, Any]) -> None:
        """`settings` is its configuration."""
        self.port = ports.take()
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

    def has_points(self, query: str, start: float, end: float) -> bool:
        """Whether a graph of the query from `start` to `end` would show a point; NaN is none."""
        matrix = self.get("query_range", query=query, start=start, end=end, step=1)["result"]
        return any(value != "NaN" for series in matrix for _, value in series["values"])


class Mesh:
    """The running whole.

    Attributes:
        mixer: the one that both Envoys ask and report to.
        prometheus: scrapes it.
        start, end: when the traffic began, and when all of it had been scraped.
    """

    def __init__(self, programs: Programs, ports: Ports, mixer: Mixer, upstream: int) -> None:
        self.mixer = mixer
        self._sent = 0
        edge, reviews = (make_certificate(mixer.folder, name, uri=spiffe(name)) for name in ("edge", "reviews-v1"))
        plain = ports.take()
        self._server = EnvoyProxy(programs, ports, mixer=mixer.grpc, upstream=upstream)
        self._server.start(beside_the_server(reviews, edge, plain))
        self._client = EnvoyProxy(
            programs, ports, mixer=mixer.grpc, upstream=upstream, reviews=self._server.port, ratings=plain
        )
        self._client.start(beside_the_client(edge, reviews))
        scrape = {"job_name": "mixer", "static_configs": [{"targets": [f"127.0.0.1:{mixer.admin}"]}]}
        settings = {"global": {"scrape_interval": "1s"}, "scrape_configs": [scrape]}
        self.prometheus = Prometheus(programs, ports, mixer.folder, settings)
        self.start = time.time()
        self.end = self.start

    def call(self, path: str, **headers: str) -> int:
        """Sends a request as the client; returns its status."""
        self._sent += 1
        pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return self._client.request(path, headers=pairs).status

    def work(self, rounds: int) -> None:
        """Traffic, spread over several scrapes so that there are rates to show."""
        for _ in range(rounds):
            for service in SERVICES:
                assert self.call(f"/{service}/1") == 200
            self.settle()
            time.sleep(1.1)  # the next scrape

    def shows(self, query: str) -> bool:
        """Whether a graph of the query over the time of the traffic has a point."""
        return self.prometheus.has_points(query, self.start, self.end)

    def settle(self) -> None:
        """Returns when Prometheus has seen the last request that was sent, and another scrape after it."""
        query = 'sum(istio_requests_total{reporter="source"})'
        eventually(
            lambda: [row["value"][1] for row in self.prometheus.now(query)] == [str(self._sent)],
            f"{self._sent} requests in Prometheus", _PATIENCE,
        )  # fmt: skip
        self.end = time.time() + 1

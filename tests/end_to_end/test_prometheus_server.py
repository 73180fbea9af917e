"""A real Prometheus scrapes mixer and answers a query of Istio's dashboards."""

from __future__ import annotations

import json
import urllib.parse

import pytest

from tests.parts.grpc_client import check_request, connect
from tests.parts.http_client import request
from tests.parts.mixer_process import eventually
from tests.parts.presence import find_server

pytestmark = [pytest.mark.prometheus, pytest.mark.envoy, pytest.mark.chdb]


def ask(port: int, query: str) -> list[dict]:
    response = request(port, f"/api/v1/query?{urllib.parse.urlencode({'query': query})}")
    return json.loads(response.body)["data"]["result"] if response.status == 200 else []


def test_prometheus_scrapes_everything(make_mixer, make_envoy, programs, ports, tmp_path):
    mixer = make_mixer()
    mixer.start()
    envoy = make_envoy(mixer)
    envoy.start()
    assert {envoy.request(f"/reviews/{number}").status for number in range(5)} == {200}
    with connect(mixer.address) as client:
        client.check(check_request())
    port = ports.take()
    scrape = {"job_name": "mixer", "static_configs": [{"targets": [f"127.0.0.1:{mixer.admin}"]}]}
    settings = tmp_path / "prometheus.json"
    settings.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [scrape]}))
    server = programs.start(
        "prometheus",
        (
            find_server("prometheus"),
            f"--config.file={settings}",
            f"--storage.tsdb.path={tmp_path}/tsdb",
            f"--web.listen-address=127.0.0.1:{port}",
        ),
    )
    rate = 'sum(istio_requests_total{reporter="source",destination_service_name="reviews",response_code="200"})'
    server.wait_until(lambda: is_up(port))
    eventually(lambda: [r["value"][1] for r in ask(port, rate)] == ["5"], "five requests in Prometheus")
    duration = "histogram_quantile(0.5, sum(istio_request_duration_milliseconds_bucket) by (le))"
    assert ask(port, duration)
    assert [r["value"][1] for r in ask(port, 'sum(mixer_checks_total{verdict="allow"})')] == ["6"]
    assert [r["value"][1] for r in ask(port, "up")] == ["1"]


def is_up(port: int) -> bool:
    try:
        return request(port, "/-/ready").status == 200
    except OSError:
        return False

"""Metrics of the user's own, from a real Envoy's requests to /metrics."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.end_to_end.conftest import MakeEnvoy, MakeMixer
from tests.parts.envoy_proxy import EnvoyProxy
from tests.parts.mixer_process import Mixer, eventually

pytestmark = [pytest.mark.envoy, pytest.mark.chdb]

METRICS: list[dict[str, Any]] = [
    {
        "name": "shop_requests_total", "kind": "counter", "help": "Requests, by host and class of status.",
        "labels": {"host": "request.host", "class": 'string(response.code / 100) + "xx"'},
    },
    {
        "name": "shop_bytes_total", "kind": "counter", "match": 'request.method == "POST"', "value": "request.size",
        "labels": {"host": "request_host"},
    },
    {
        "name": "shop_seconds", "kind": "histogram", "value": "double(response.duration) / 1000000.0",
        "labels": {"host": "request.host"}, "buckets": [0.001, 60],
    },
    {"name": "shop_numbers_total", "kind": "counter", "value": 'int(request.url_path.split("/")[2])'},
]  # fmt: skip


@pytest.fixture
def mixer(make_mixer: MakeMixer) -> Mixer:
    mixer = make_mixer(telemetry={"prometheus": {"metrics": METRICS}})
    mixer.start()
    return mixer


@pytest.fixture
def envoy(mixer: Mixer, make_envoy: MakeEnvoy) -> EnvoyProxy:
    envoy = make_envoy(mixer)
    envoy.start()
    return envoy


def configure_metrics(mixer: Mixer, metrics: list[dict[str, Any]]) -> None:
    settings = yaml.safe_load(mixer.file.read_text(encoding="utf-8"))
    settings["telemetry"]["prometheus"]["metrics"] = metrics
    mixer.write("mixer.yaml", yaml.safe_dump(settings))


def ask(envoy: EnvoyProxy, host: str, path: str = "/reviews/1", **request: Any) -> None:
    assert envoy.request(path, headers=[("host", host)], **request).status == 200


def test_requests_are_counted_as_configured_and_otherwise_after_a_reload(envoy: EnvoyProxy, mixer: Mixer) -> None:
    for _ in range(2):
        ask(envoy, "acme.example")
    ask(envoy, "acme.example", method="POST", body=b"x" * 300)
    ask(envoy, "umbrella.example", path="/reviews/no-number")

    def counted() -> bool:
        return mixer.metric("istio_requests_total") == 4

    eventually(counted, "four requests")
    assert mixer.metrics("shop_requests_total") == {
        ("shop_requests_total", frozenset({("host", "acme.example"), ("class", "2xx")})): 3,
        ("shop_requests_total", frozenset({("host", "umbrella.example"), ("class", "2xx")})): 1,
    }
    assert mixer.metrics("shop_bytes_total") == {("shop_bytes_total", frozenset({("host", "acme.example")})): 300}
    assert mixer.metric("shop_seconds_count", host="acme.example") == 3
    assert mixer.metric("shop_seconds_bucket", host="acme.example", le="60.0") == 3
    assert 0 < mixer.metric("shop_seconds_sum", host="acme.example") < 180
    assert mixer.metric("shop_numbers_total") == 3  # the row that has no number is left out, and only that
    assert mixer.metrics("mixer_user_metric_errors_total") == {
        (
            "mixer_user_metric_errors_total",
            frozenset({("metric", "shop_numbers_total"), ("part", "value"), ("reason", "conversion")}),
        ): 1
    }

    first, second, *_ = METRICS
    other = {"name": "shop_paths_total", "kind": "counter", "labels": {"path": "request.url_path"}}
    mixer.reload(lambda: configure_metrics(mixer, [{**first, "match": "false"}, second, other]))
    ask(envoy, "acme.example")
    eventually(lambda: mixer.metric("istio_requests_total") == 5, "a fifth request")
    assert mixer.metrics("shop_paths_total") == {("shop_paths_total", frozenset({("path", "/reviews/1")})): 1}
    assert mixer.metric("shop_requests_total") == 4  # it matches nothing any more
    assert mixer.metric("shop_seconds_count") == 4  # it is no longer counted


def test_a_reload_that_gives_a_metric_another_form_is_refused(mixer: Mixer) -> None:
    first, *others = METRICS
    configure_metrics(mixer, [{**first, "labels": {"host": "request.host"}}, *others])
    eventually(lambda: mixer.metric("mixer_reloads_total", outcome="refused") >= 1, "a refusal")
    (fault,) = json.loads(mixer.get("/config").body)["last_reload_faults"]
    assert "telemetry.prometheus.metrics.0: shop_requests_total was counted with other labels" in fault


def test_validate_shows_what_is_wrong(mixer: Mixer) -> None:
    configure_metrics(mixer, [{"name": "mine_total", "kind": "counter", "value": "request.methd"}])
    done = mixer.run("validate")
    assert done.returncode == 1
    assert "telemetry.prometheus.metrics.0.value: column 1: no attribute is called request.methd" in done.stdout

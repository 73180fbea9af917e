"""deploy/envoy: nothing that matters is left to a default, and its lines for TLS are what Envoy takes.

deploy/envoy-inside is the same but for where mixer is.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from mixer_py.config import ServerSettings
from mixer_py.demo import envoy
from mixer_py.envoy_parts import find_envoy
from tests.deploy.shipped_tls import with_tls
from tests.parts.certificates import make_certificate
from tests.parts.envoy_proxy import SHIPPED, http_filter, manager
from tests.parts.inside import FOLDER as INSIDE


def shipped() -> dict[str, Any]:
    return envoy.read_bootstrap(SHIPPED)


def clusters() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = shipped()["static_resources"]["clusters"]
    return found


def test_every_wait_has_an_end():
    bootstrap = shipped()
    assert all(cluster["connect_timeout"] for cluster in clusters())
    routes = manager(bootstrap)["route_config"]["virtual_hosts"][0]["routes"]
    assert all(route["route"]["timeout"] for route in routes)
    assert http_filter(bootstrap, "ext_authz")["grpc_service"]["timeout"]
    assert http_filter(bootstrap, "ratelimit")["timeout"]
    assert manager(bootstrap)["request_headers_timeout"]
    assert manager(bootstrap)["common_http_protocol_options"]["idle_timeout"]
    assert all(check["timeout"] for cluster in clusters() for check in cluster.get("health_checks", ()))


def test_every_failure_mode_is_said():
    authorization, limit = http_filter(shipped(), "ext_authz"), http_filter(shipped(), "ratelimit")
    assert {"failure_mode_allow", "failure_mode_allow_header_add", "status_on_error"} <= authorization.keys()
    assert {"failure_mode_deny", "status_on_error"} <= limit.keys()
    assert authorization["with_request_body"]["allow_partial_message"] is True, "else a longer body is refused with 413"


@pytest.mark.parametrize("file", [SHIPPED, INSIDE / "envoy.yaml"], ids=["beside", "inside"])
def test_every_cluster_has_its_circuit_breakers_and_mixers_is_what_one_worker_lets_wait(file: Path):
    for cluster in envoy.read_bootstrap(file)["static_resources"]["clusters"]:
        (threshold,) = cluster["circuit_breakers"]["thresholds"]
        assert {"max_requests", "max_pending_requests", "max_connections"} <= threshold.keys(), cluster["name"]
        if cluster["name"] == "mixer":
            most = ServerSettings().max_waiting
            assert (threshold["max_requests"], threshold["max_pending_requests"]) == (most, most)


def test_a_check_is_tried_at_as_many_endpoints_as_one_mixer_has():
    (mixer,) = [cluster for cluster in clusters() if cluster["name"] == "mixer"]
    endpoints = mixer["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert len(endpoints) == 8
    assert http_filter(shipped(), "ext_authz")["grpc_service"]["retry_policy"]["num_retries"] >= len(endpoints)


@pytest.mark.envoy
def test_envoy_takes_the_file_for_mixer_inside_as_it_stands():
    command = (find_envoy(), "--mode", "validate", "--config-path", INSIDE / "envoy.yaml")
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


def test_mixer_inside_is_asked_as_mixer_beside_is():
    """But for where it is, and whom else a check could ask."""
    beside, inside = shipped(), envoy.read_bootstrap(INSIDE / "envoy.yaml")
    asks = http_filter(beside, "ext_authz")["grpc_service"]
    del asks["retry_policy"]
    logged = manager(inside)["access_log"][0]["typed_config"]["common_config"]["grpc_service"]["envoy_grpc"]
    assert logged.pop("cluster_name") == "mixer-logs"
    logged["cluster_name"] = "mixer"
    assert manager(inside) == manager(beside)
    services = [one for one in inside["static_resources"]["clusters"] if not one["name"].startswith("mixer")]
    assert services == [one for one in beside["static_resources"]["clusters"] if one["name"] != "mixer"]


@pytest.mark.envoy
def test_envoy_takes_the_lines_for_tls_once_they_are_no_comment(tmp_path: Path):
    made = make_certificate(tmp_path, "own")
    for name, source in {"tls.crt": made.certificate, "tls.key": made.key, "ca.crt": made.certificate}.items():
        (tmp_path / name).write_bytes(source.read_bytes())
    copy = tmp_path / "envoy.yaml"
    copy.write_text(with_tls(tmp_path))
    command = (find_envoy(), "--mode", "validate", "--config-path", copy)
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr

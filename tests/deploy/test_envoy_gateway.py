"""deploy/envoy-gateway: schemas take it, its parts name one another, and an Envoy so configured does the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mixer_py.config import ServerSettings
from mixer_py.demo.processes import Ports
from tests.deploy.chart import NAMESPACE, render
from tests.deploy.objects import Document, documents, faults
from tests.parts.envoy_proxy import Bootstrap, EnvoyProxy, http_filter, manager, shipped
from tests.parts.mixer_process import Mixer
from tests.parts.presence import ROOT
from tests.parts.programs import Programs
from tests.parts.upstream import Upstream

FOLDER = ROOT / "deploy" / "envoy-gateway"
OBJECTS = ("gateway.yaml", "references.yaml")
FILTER = "envoy.filters.http.ext_authz/securitypolicy/edge/mixer"
"""What Envoy Gateway calls the filter that it makes of the policy."""

pytestmark = pytest.mark.describing_modules


def read() -> dict[str, Document]:
    """The objects by kind; there is one of each."""
    found = [document for name in OBJECTS for document in documents((FOLDER / name).read_text(encoding="utf-8"))]
    by_kind = {document["kind"]: document for document in found}
    assert len(by_kind) == len(found)
    return by_kind


def test_every_object_is_taken():
    assert [fault for document in read().values() for fault in faults(document)] == []


def test_every_file_is_held_against_something():
    assert {path.name for path in FOLDER.iterdir()} == {*OBJECTS, "mixer-values.yaml"}


def sinks() -> list[Document]:
    settings = read()["EnvoyProxy"]["spec"]["telemetry"]["accessLog"]["settings"]
    return [sink["als"] for setting in settings for sink in setting["sinks"]]


def check() -> Document:
    found: Document = read()["SecurityPolicy"]["spec"]["extAuth"]
    return found


def test_nothing_waits_long_and_failure_modes_are_said():
    assert (check()["timeout"], check()["failOpen"], check()["statusOnError"]) == ("250ms", False, 403)
    breaker = check()["grpc"]["backendSettings"]["circuitBreaker"]
    assert {breaker["maxParallelRequests"], breaker["maxPendingRequests"]} == {ServerSettings().max_waiting}
    assert "bodyToExtAuth" not in check(), "a longer body would be refused with 413"


@pytest.mark.helm
def test_its_parts_name_one_another_and_the_service_of_the_chart(tmp_path: Path):
    objects = read()
    rendered = render(tmp_path, {}, FOLDER / "mixer-values.yaml")
    assert [fault for document in rendered.values() for fault in faults(document)] == []
    (port,) = rendered["Service", "mixer"]["spec"]["ports"]
    backends = [*check()["grpc"]["backendRefs"], *(backend for sink in sinks() for backend in sink["backendRefs"])]
    assert backends == [{"name": "mixer", "namespace": NAMESPACE, "port": port["port"]}] * 2
    granted = {(one["kind"], one["namespace"]) for one in objects["ReferenceGrant"]["spec"]["from"]}
    assert granted == {(kind, objects[kind]["metadata"]["namespace"]) for kind in ("SecurityPolicy", "EnvoyProxy")}
    gateway = objects["Gateway"]
    assert gateway["spec"]["infrastructure"]["parametersRef"]["name"] == objects["EnvoyProxy"]["metadata"]["name"]
    for kind in ("SecurityPolicy", "BackendTrafficPolicy", "ClientTrafficPolicy"):
        assert objects[kind]["metadata"]["namespace"] == gateway["metadata"]["namespace"]
        assert [target["name"] for target in objects[kind]["spec"]["targetRefs"]] == [gateway["metadata"]["name"]]


@pytest.mark.envoy
@pytest.mark.chdb
def test_an_envoy_so_configured_decides_counts_and_reports(
    programs: Programs, ports: Ports, tmp_path: Path, upstream: Upstream
):
    """The filter's name is another than usual: what it learned has to be found all the same."""
    values = yaml.safe_load((FOLDER / "mixer-values.yaml").read_text(encoding="utf-8"))
    (quota,) = values["config"]["rate_limit"]["quotas"]
    mixer = Mixer(programs, ports, tmp_path)
    mixer.write(
        "policy.rego", 'package envoy.authz\n\ndefault allow := false\n\nallow if input.parsed_path[0] == "reviews"\n'
    )
    mixer.configure(
        {
            "policy": {"bundles": ["policy.rego"]},
            "rate_limit": {"quotas": [quota | {"limit": "1 / 1d"}]},
            "telemetry": {"clickhouse": {"url": f"chdb://{tmp_path}/chdb"}},
        }
    )
    mixer.start()
    envoy = EnvoyProxy(programs, ports, mixer=mixer.grpc, upstream=upstream.port)
    envoy.start(shipped(), edit=as_envoy_gateway_would)
    tenant = [("x-tenant", "acme")]
    assert envoy.request("/admin", headers=tenant).status == 403
    assert envoy.request("/reviews/1", headers=tenant).status == 200
    refused = envoy.request("/reviews/1", headers=tenant)
    assert refused.status == 429
    row = mixer.row(refused.header("x-request-id") or "", "reporter, verdict, quota_name, quota_code")
    assert row == {"reporter": "source", "verdict": "deny", "quota_name": "per-tenant", "quota_code": "OVER_LIMIT"}


def as_envoy_gateway_would(bootstrap: Bootstrap) -> None:
    """ext_authz by the policy and under its name, no rate limit filter, and the log of the sink."""
    filters: list[dict[str, Any]] = manager(bootstrap)["http_filters"]
    authorization = http_filter(bootstrap, "ext_authz")
    service = authorization["grpc_service"]
    kind = authorization["@type"]
    authorization.clear()
    authorization |= {
        "@type": kind,
        "transport_api_version": "V3",
        "grpc_service": service,
        "failure_mode_allow": check()["failOpen"],
        "status_on_error": {"code": check()["statusOnError"]},
    }
    filters[0]["name"] = FILTER
    filters[:] = [candidate for candidate in filters if not candidate["name"].endswith(".ratelimit")]
    (sink,) = sinks()
    logger = manager(bootstrap)["access_log"][0]["typed_config"]
    logger["common_config"]["log_name"] = sink["logName"]
    logger["additional_request_headers_to_log"] = sink["http"]["requestHeaders"]
    logger["additional_response_headers_to_log"] = sink["http"]["responseHeaders"]
    logger["additional_response_trailers_to_log"] = sink["http"]["responseTrailers"]
    for route in manager(bootstrap)["route_config"]["virtual_hosts"][0]["routes"]:
        route["route"].pop("rate_limits", None)

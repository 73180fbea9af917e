"""deploy/istio: Istio's schemas take it, its parts name one another, and an Envoy so configured does the main job."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format

from mixer_py.demo.processes import Ports
from tests.deploy.chart import NAMESPACE, render
from tests.deploy.mesh import CLUSTER, apply_patch, parse_mesh_config, write_providers
from tests.deploy.objects import Document, documents, faults
from tests.parts.envoy_proxy import Bootstrap, EnvoyProxy, shipped
from tests.parts.mixer_process import Mixer
from tests.parts.presence import ROOT
from tests.parts.programs import Programs
from tests.parts.upstream import Upstream

ISTIO = ROOT / "deploy" / "istio"
OBJECTS = ("authorization-policy.yaml", "telemetry.yaml", "destination-rule.yaml", "envoy-filter.yaml")
HOST = f"mixer.{NAMESPACE}.svc.cluster.local"

pytestmark = pytest.mark.describing_modules


def read(name: str) -> list[Document]:
    return documents((ISTIO / name).read_text(encoding="utf-8"))


def mesh_config() -> Document:
    found: Document = yaml.safe_load((ISTIO / "istiod-values.yaml").read_text(encoding="utf-8"))["meshConfig"]
    return found


def providers() -> dict[str, Document]:
    return {provider["name"]: provider for provider in mesh_config()["extensionProviders"]}


def patches() -> list[Document]:
    (envoy_filter,) = read("envoy-filter.yaml")
    found: list[Document] = envoy_filter["spec"]["configPatches"]
    return found


@pytest.mark.parametrize("name", OBJECTS)
def test_istios_schema_takes_every_object(name: str):
    assert [fault for document in read(name) for fault in faults(document)] == []


def test_every_file_is_held_against_something():
    assert {path.name for path in ISTIO.glob("*.yaml")} == {*OBJECTS, "istiod-values.yaml", "mixer-values.yaml"}


def test_the_mesh_config_is_one(tmp_path: Path):
    parsed = parse_mesh_config(tmp_path, mesh_config())
    assert parsed.extension_providers[0].name == "mixer"
    wrong = copy.deepcopy(mesh_config())
    wrong["extensionProviders"][0]["envoyExtAuthzGrpc"]["timeOut"] = "1s"
    with pytest.raises(json_format.ParseError, match="timeOut"):
        parse_mesh_config(tmp_path, wrong)


def test_providers_that_are_used_are_there_and_none_is_left_over():
    used = {document["spec"]["provider"]["name"] for document in read("authorization-policy.yaml")}
    for document in read("telemetry.yaml"):
        for logging in document["spec"]["accessLogging"]:
            used |= {provider["name"] for provider in logging.get("providers", ())}
    assert used == providers().keys()


def test_nothing_waits_long_and_failure_modes_are_said():
    check = providers()["mixer"]["envoyExtAuthzGrpc"]
    assert check["timeout"] == "0.25s"
    assert check["failOpen"] is False
    assert check["statusOnError"] == "403"
    kinds = {kind for provider in providers().values() for kind in provider if kind != "name"}
    assert kinds == {"envoyExtAuthzGrpc", "envoyHttpAls", "envoyTcpAls"}


@pytest.mark.helm
def test_all_of_it_is_about_the_service_of_the_chart(tmp_path: Path):
    values = ISTIO / "mixer-values.yaml"
    objects = render(tmp_path, {}, values)
    assert [fault for document in objects.values() for fault in faults(document)] == []
    (port,) = objects["Service", "mixer"]["spec"]["ports"]
    assert objects["Service", "mixer"]["spec"].get("clusterIP") != "None", "istiod would make it ORIGINAL_DST"
    for provider in providers().values():
        (settings,) = [value for key, value in provider.items() if key != "name"]
        assert (settings["service"], settings["port"]) == (HOST, port["port"])
    (rule,) = read("destination-rule.yaml")
    assert rule["spec"]["host"] == HOST
    assert f"outbound|{port['port']}||{HOST}" == CLUSTER
    # The sidecar writes where mixer reads.
    pod = objects["Deployment", "mixer"]["spec"]["template"]
    folder = yaml.safe_load(pod["metadata"]["annotations"]["proxy.istio.io/config"])["proxyMetadata"]["OUTPUT_CERTS"]
    (sidecar,) = yaml.safe_load(pod["metadata"]["annotations"]["sidecar.istio.io/userVolumeMount"])
    assert sidecar["mountPath"] == folder
    (own,) = [mount for mount in pod["spec"]["containers"][0]["volumeMounts"] if mount["name"] == sidecar["name"]]
    tls = yaml.safe_load(objects["ConfigMap", "mixer"]["data"]["mixer.yaml"])["server"]["tls"]
    assert {str(Path(tls[name]).parent) for name in ("certificate", "key", "client_ca")} == {own["mountPath"]}


@pytest.mark.envoy
@pytest.mark.chdb
def test_an_envoy_so_configured_decides_limits_and_reports(
    programs: Programs, ports: Ports, tmp_path: Path, upstream: Upstream
):
    mixer = Mixer(programs, ports, tmp_path)
    mixer.write(
        "policy.rego", 'package envoy.authz\n\ndefault allow := false\n\nallow if input.parsed_path[0] == "reviews"\n'
    )
    mixer.write(
        "limits.yaml",
        "domain: mesh\ndescriptors:\n  - key: tenant\n    descriptors:\n"
        "      - {key: service, rate_limit: {unit: day, requests_per_unit: 1}}\n",
    )
    mixer.configure(
        {
            "policy": {"bundles": ["policy.rego"]},
            "rate_limit": {"config": ["limits.yaml"]},
            "telemetry": {"clickhouse": {"url": f"chdb://{tmp_path}/chdb"}},
        }
    )
    mixer.start()
    envoy = EnvoyProxy(programs, ports, mixer=1, upstream=upstream.port, **{CLUSTER: mixer.grpc})

    def as_istiod_would(bootstrap: Bootstrap) -> None:
        write_providers(bootstrap, providers(), "inbound")
        for patch in patches():
            apply_patch(bootstrap, patch)
        _be_patient(bootstrap)

    envoy.start(shipped(), edit=as_istiod_would)
    tenant = [("x-tenant", "acme")]
    assert envoy.request("/admin", headers=tenant).status == 403
    assert envoy.request("/reviews/1", headers=tenant).status == 200
    refused = envoy.request("/reviews/1", headers=tenant)
    assert refused.status == 429
    row = mixer.row(refused.header("x-request-id"), "reporter, verdict, limit_code")
    assert row == {"reporter": "destination", "verdict": "allow", "limit_code": "OVER_LIMIT"}


def _be_patient(bootstrap: Bootstrap) -> None:
    """A machine that runs a whole test suite is no measure."""

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                if key in ("timeout", "max_interval") and value in ("0.25s", "0.1s"):
                    node[key] = "20s"
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(bootstrap["static_resources"]["listeners"])

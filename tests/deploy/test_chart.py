"""The Helm chart: what it renders is what Kubernetes takes, and what is in its ConfigMap is what mixer takes."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from mixer_py.demo.processes import Ports
from tests.deploy.chart import CHART, RefusedError, install_configuration, render
from tests.deploy.objects import faults
from tests.parts.mixer_process import Mixer
from tests.parts.presence import ROOT, find_server
from tests.parts.programs import Programs

pytestmark = [pytest.mark.helm, pytest.mark.describing_modules]

POLICY = 'package envoy.authz\n\ndefault allow := false\n\nallow if input.parsed_path[0] == "reviews"\n'
LIMITS = "domain: mesh\ndescriptors:\n  - key: tenant\n    rate_limit: {unit: day, requests_per_unit: 3}\n"
SHARED = {"rate_limit": {"store": "redis://mixer@valkey.mesh.svc:6379/0"}}
SERVER = {"telemetry": {"clickhouse": {"url": "clickhouse://mixer@clickhouse.telemetry.svc:9000/mesh"}}}
EVERYTHING = {
    "config": SHARED | SERVER,
    "policies": {"policy.rego": POLICY},
    "limits": {"limits.yaml": LIMITS},
    "secrets": ["mixer-clickhouse"],
    "adminToken": {"secret": "mixer-admin", "key": "token"},
    "tls": {"secret": "mixer-tls", "allow": ["spiffe://cluster.local/ns/edge/*"]},
    "autoscaling": {"enabled": True},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "imagePullSecrets": [{"name": "registry"}],
    "priorityClassName": "system-cluster-critical",
    "podAnnotations": {"a": "b"},
    "podLabels": {"c": "d"},
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "edge", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
}


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_kubernetes_takes_every_object(tmp_path: Path, values: Mapping[str, Any]):
    objects = render(tmp_path, values)
    assert [fault for found in objects.values() for fault in faults(found)] == []
    kinds = {kind for kind, _ in objects}
    assert {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "ConfigMap", "ServiceAccount"} <= kinds
    assert ({"HorizontalPodAutoscaler", "ServiceMonitor"} <= kinds) is bool(values)


def test_a_slip_of_the_pen_in_an_object_would_be_seen(tmp_path: Path):
    """Else the test above could not fail."""
    objects = render(tmp_path, EVERYTHING)
    wrong = {
        "Deployment": lambda spec: spec["template"]["spec"]["containers"][0].update(readOnlyRootFileSystem=True),
        "HorizontalPodAutoscaler": lambda spec: spec.update(maxReplicas="10"),
        "ServiceMonitor": lambda spec: spec["endpoints"][0].update(intervall="15s"),
        "NetworkPolicy": lambda spec: spec.pop("podSelector") and spec.update(podSelectors={}),
    }
    for kind, spoil in wrong.items():
        (found,) = [found for (of, _), found in objects.items() if of == kind]
        spoil(found["spec"])
        assert faults(found), kind


def test_the_chart_is_released_with_mixer():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert chart["version"] == chart["appVersion"] == project["version"]


def test_helm_finds_nothing_to_complain_about():
    finished = subprocess.run(
        (find_server("helm"), "lint", "--strict", CHART, "--kube-version", "1.37.0"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"limits": {"limits.yaml": LIMITS}}, "limits would be counted in each replica by itself"),
        ({"config": {"rate_limit": {"quotas": [{"name": "a", "limit": "1 / 1s"}]}}}, "in each replica by itself"),
        ({"config": {"telemetry": {"clickhouse": {"url": "chdb:///rows"}}}}, "a database of each replica"),
        ({"autoscaling": {"enabled": True, "minReplicas": 9, "maxReplicas": 3}}, "above maxReplicas"),
        ({"replica": 3}, "replica"),
        ({"tls": {"allow": "spiffe://a"}}, "allow"),
    ],
)
def test_values_that_would_go_wrong_quietly_are_refused(tmp_path: Path, values: Mapping[str, Any], words: str):
    with pytest.raises(RefusedError, match=words):
        render(tmp_path, values)


def test_limits_of_each_replica_and_limits_of_one_are_taken(tmp_path: Path):
    limits = {"limits": {"limits.yaml": LIMITS}}
    assert render(tmp_path, limits | {"limitsPerReplica": True})
    alone = render(tmp_path, limits | {"replicas": 1})
    assert ("PodDisruptionBudget", "mixer") not in alone


def test_a_pod_has_no_rights_and_writes_only_where_it_has_a_volume(tmp_path: Path):
    pod = render(tmp_path, EVERYTHING)["Deployment", "mixer"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}
    assert {path for path, read_only in mounts.items() if not read_only} == {
        "/var/lib/mixer",
        "/run/mixer",
        "/tmp",
        "/more",
    }
    assert all(mounts[f"/secrets/mixer-{name}"] for name in ("tls", "clickhouse", "admin"))
    patience = pod["terminationGracePeriodSeconds"] - container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert patience > 15 + 10, "server.drain_timeout and server.flush_timeout, at their defaults"


def test_what_the_services_and_the_monitor_select_is_there(tmp_path: Path):
    objects = render(tmp_path, EVERYTHING)
    template = objects["Deployment", "mixer"]["spec"]["template"]
    labels = template["metadata"]["labels"].items()
    ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
    for (kind, _), found in objects.items():
        if kind == "Service":
            assert found["spec"]["selector"].items() <= labels
            assert {port["targetPort"] for port in found["spec"]["ports"]} <= ports
    monitor = objects["ServiceMonitor", "mixer"]["spec"]
    chosen = [
        found
        for (kind, _), found in objects.items()
        if kind == "Service" and monitor["selector"]["matchLabels"].items() <= found["metadata"]["labels"].items()
    ]
    assert [found["metadata"]["name"] for found in chosen] == ["mixer-pods"], "each pod is scraped once"
    assert chosen[0]["spec"]["clusterIP"] == "None"
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in chosen[0]["spec"]["ports"]}


def test_what_needs_a_restart_restarts_and_policies_do_not(tmp_path: Path):
    def mark(values: Mapping[str, Any]) -> str:
        template = render(tmp_path, values)["Deployment", "mixer"]["spec"]["template"]
        return str(template["metadata"]["annotations"]["mixer/restart"])

    policies = {"policies": {"policy.rego": POLICY}}
    assert mark({}) == mark(policies)
    assert mark({}) != mark({"config": {"server": {"workers": 2}}})
    assert mark({}) != mark({"config": SERVER})


def test_mixer_runs_with_the_configuration_as_kubernetes_lays_it_out(tmp_path: Path, programs: Programs, ports: Ports):
    """Policies decide and limits are loaded once each, although a mounted ConfigMap shows each file twice."""
    mixer = Mixer(programs, ports, tmp_path)
    values = {
        "replicas": 1,
        "policies": {"policy.rego": POLICY},
        "limits": {"limits.yaml": LIMITS},
        "config": {"server": {"listeners": [{"address": mixer.address}], "admin": f"127.0.0.1:{mixer.admin}"}},
    }
    folder = tmp_path / "etc"
    folder.mkdir()
    mixer.file = install_configuration(folder, render(tmp_path, values))
    assert yaml.safe_load(mixer.file.read_text())["policy"] == {"bundles": ["policies"]}
    mixer.start()
    assert "mesh/tenant" in mixer.get("/rlconfig").body.decode()
    request = {"attributes": {"request": {"http": {"method": "GET", "path": "/reviews/1"}}}}
    (tmp_path / "request.json").write_text(json.dumps(request))
    checked = mixer.run("check", "--request", str(tmp_path / "request.json"), "--expect", "allow")
    assert checked.returncode == 0, checked

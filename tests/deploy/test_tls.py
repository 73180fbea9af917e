"""Mutual TLS as the examples have it: the chart's Secret on mixer's side, the shipped lines on Envoy's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mixer_py.demo.processes import Ports
from tests.deploy.chart import install_configuration, render
from tests.deploy.shipped_tls import speak_tls
from tests.parts.certificates import Authority, Certificate
from tests.parts.envoy_proxy import EnvoyProxy, shipped
from tests.parts.mixer_process import Mixer
from tests.parts.programs import Programs
from tests.parts.upstream import Upstream

pytestmark = [pytest.mark.helm, pytest.mark.describing_modules, pytest.mark.envoy]

LISTED = "spiffe://cluster.local/ns/edge/sa/envoy"
OTHER = "spiffe://cluster.local/ns/shop/sa/till"


def as_secret(folder: Path, shown: Certificate, authority: Authority) -> Path:
    """The three files of a Secret as cert-manager writes it."""
    folder.mkdir(parents=True)
    for name, source in (("tls.crt", shown.certificate), ("tls.key", shown.key), ("ca.crt", authority.certificate)):
        shutil.copy(source, folder / name)
    return folder


def test_an_envoy_that_is_listed_is_answered_and_another_one_is_not(
    programs: Programs, ports: Ports, tmp_path: Path, upstream: Upstream
):
    issued = tmp_path / "issued"
    issued.mkdir()
    authority = Authority(issued)
    as_secret(tmp_path / "secrets" / "mixer-tls", authority.issue("mixer", dns=["mixer.example"]), authority)
    mixer = Mixer(programs, ports, tmp_path)
    values = {
        "replicas": 1,
        "policies": {"policy.rego": "package envoy.authz\n\ndefault allow := true\n"},
        "tls": {"secret": "mixer-tls", "allow": ["spiffe://cluster.local/ns/edge/*"]},
        "config": {"server": {"listeners": [{"address": mixer.address}], "admin": f"127.0.0.1:{mixer.admin}"}},
    }
    objects = render(tmp_path, values)
    data = objects["ConfigMap", "mixer"]["data"]
    data["mixer.yaml"] = data["mixer.yaml"].replace("/secrets/", f"{tmp_path}/secrets/")
    folder = tmp_path / "mounted"
    folder.mkdir()
    mixer.file = install_configuration(folder, objects)
    mixer.start()
    for name, uri, status in (("listed", LISTED, 200), ("other", OTHER, 403)):
        own = as_secret(tmp_path / name, authority.issue(name, uris=[uri]), authority)
        envoy = EnvoyProxy(programs, ports, mixer=mixer.grpc, upstream=upstream.port)
        envoy.start(shipped(), edit=lambda bootstrap, own=own: speak_tls(bootstrap, own))
        assert envoy.request("/reviews/1").status == status, name

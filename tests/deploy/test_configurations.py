"""Every configuration of mixer in deploy/ is accepted: files as they stand, and what the chart makes of values."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.chart import install_configuration, render
from tests.parts.certificates import make_certificate
from tests.parts.presence import ROOT

DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("mixer.yaml") if "grafana" not in path.parts)
VALUES = sorted(DEPLOY.rglob("mixer-values.yaml"))
_SECRET = re.compile(r"(?:/run)?/secrets/[\w./-]+|/run/credentials/[\w./-]+|/etc/istio-certificates/[\w.-]+")


def name_of(path: Path) -> str:
    return str(path.relative_to(DEPLOY))


def with_secrets(text: str, folder: Path) -> str:
    """The text with the secrets that it names in another folder, where each is what its name says."""
    made = make_certificate(folder, "own")

    def place(found: re.Match[str]) -> str:
        path = folder / found[0].lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = {"key": made.key, "crt": made.certificate, "pem": made.certificate}
        of = "key" if "key" in path.name else path.suffix.lstrip(".")
        path.write_bytes(kind[of].read_bytes() if of in kind else b"secret")
        return str(path)

    return _SECRET.sub(place, text)


def validate(file: Path) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "mixer_py.cli.main", "validate", "-c", str(file))
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_there_are_some():
    assert {path.parent.name for path in FILES} >= {"systemd", "container", "clickhouse-cluster"}
    assert {path.parent.name for path in VALUES} >= {"istio", "envoy-gateway", "clickhouse-cluster", "valkey-cluster"}


@pytest.mark.envoy
@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_mixer_accepts_the_file(tmp_path: Path, path: Path):
    shutil.copytree(ROOT / "policies" / "rbac" / "bundle", tmp_path / "policies")
    (tmp_path / "limits").mkdir()
    (tmp_path / "limits" / "limits.yaml").write_text("domain: mesh\ndescriptors: [{key: tenant}]\n")
    for beside in path.parent.glob("envoy.yaml"):
        shutil.copy(beside, tmp_path)
    file = tmp_path / "mixer.yaml"
    file.write_text(with_secrets(path.read_text(encoding="utf-8"), tmp_path))
    finished = validate(file)
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.helm
@pytest.mark.parametrize("path", VALUES, ids=name_of)
def test_mixer_accepts_what_the_chart_makes_of_the_values(tmp_path: Path, path: Path):
    objects = render(tmp_path, {"policies": {"policy.rego": "package envoy.authz\n\ndefault allow := false\n"}}, path)
    data = objects["ConfigMap", "mixer"]["data"]
    data["mixer.yaml"] = with_secrets(data["mixer.yaml"], tmp_path)
    folder = tmp_path / "mounted"
    folder.mkdir()
    finished = validate(install_configuration(folder, objects))
    assert finished.returncode == 0, finished.stdout + finished.stderr

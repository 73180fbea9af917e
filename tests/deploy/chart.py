"""The chart of deploy/kubernetes, rendered by the real helm."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from tests.deploy.objects import Document, documents
from tests.parts.go_modules import describing_modules
from tests.parts.presence import ROOT, find_server

CHART: Final = ROOT / "deploy" / "kubernetes" / "mixer"
RELEASE: Final = "mixer"
NAMESPACE: Final = "mesh"


class RefusedError(Exception):
    """helm refused the values; the message is what it said."""


def render(folder: Path, values: Mapping[str, Any], *files: Path) -> dict[tuple[str, str], Document]:
    """Its objects by kind and name, with the values of the files and over them the values given."""
    own = folder / "values.yaml"
    own.write_text(yaml.safe_dump(dict(values)), encoding="utf-8")
    helm = find_server("helm")
    assert helm is not None
    command: list[str | Path] = [helm, "template", RELEASE, CHART, "--namespace", NAMESPACE]
    command += ["--kube-version", describing_modules()["k8s.io/kubernetes"]]
    for file in (*files, own):
        command += ["--values", file]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise RefusedError(finished.stderr)
    return {(found["kind"], found["metadata"]["name"]): found for found in documents(finished.stdout)}


def install_configuration(folder: Path, objects: Mapping[tuple[str, str], Document]) -> Path:
    """Lays the ConfigMap out as the kubelet mounts it (the files are links into ..data); gives mixer.yaml."""
    pod = objects["Deployment", "mixer"]["spec"]["template"]["spec"]
    (volume,) = [volume["configMap"] for volume in pod["volumes"] if volume["name"] == "configuration"]
    data = objects["ConfigMap", volume["name"]]["data"]
    version = folder / "..2026_11_28_00_00_00.1"
    for item in volume["items"]:
        file = version / item["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(data[item["key"]], encoding="utf-8")
    (folder / "..data").symlink_to(version.name)
    for name in {item["path"].partition("/")[0] for item in volume["items"]}:
        (folder / name).symlink_to(f"..data/{name}")
    return folder / "mixer.yaml"

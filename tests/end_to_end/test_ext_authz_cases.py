"""Every case folder of ext_authz over gRPC by both transports, and through a real Envoy: one mixer for all, reloaded
from case to case.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from google.protobuf import json_format

from tests.parts.envoy_proxy import Bootstrap, EnvoyProxy, http_filter, keep_paths
from tests.parts.grpc_client import Client, connect
from tests.parts.mixer_process import Mixer
from tests.parts.presence import ROOT

pytestmark = pytest.mark.envoy

FOLDERS = sorted(path.parent for path in (ROOT / "tests" / "cases" / "ext_authz").glob("*/want.json"))


@pytest.fixture(scope="module")
def mixer(make_module_mixer) -> Mixer:
    mixer = make_module_mixer()
    mixer.use_both()
    mixer.configure({"policy": {"bundles": ["policy"]}})
    mixer.start()
    return mixer


def _send_octets(bootstrap: Bootstrap) -> None:
    keep_paths(bootstrap)
    http_filter(bootstrap, "ext_authz")["with_request_body"]["pack_as_bytes"] = True


def _send_raw_headers(bootstrap: Bootstrap) -> None:
    keep_paths(bootstrap)
    http_filter(bootstrap, "ext_authz")["encode_raw_headers"] = True


EDITS = {"": keep_paths, "pack_as_bytes": _send_octets, "encode_raw_headers": _send_raw_headers}
"""What the shipped configuration of Envoy is changed by, by the name that a case gives it."""


@pytest.fixture(scope="module")
def envoys(make_module_envoy, mixer) -> dict[str, EnvoyProxy]:
    """An Envoy for each of the edits."""
    started = {}
    for name, edit in EDITS.items():
        started[name] = make_module_envoy(mixer)
        started[name].start(edit=edit)
    return started


@pytest.fixture(scope="module")
def clients(mixer) -> Iterator[list[Client]]:
    """One of each transport."""
    with connect(mixer.address) as by_grpcio, connect(mixer.second) as by_envoy:
        yield [by_grpcio, by_envoy]


def policy_settings(folder: Path) -> dict[str, Any]:
    """What `policy:` is in this case."""
    config = folder / "config.yaml"
    keys = yaml.safe_load(config.read_text())["policy"] if config.exists() else {}
    if "proto_descriptor" in keys:
        keys["proto_descriptor"] = str(folder / keys["proto_descriptor"])
    bundles = [str(folder / name) for name in ("policy.rego", "data.json") if (folder / name).exists()]
    return {"bundles": bundles, **keys}


def assert_part(part: Any, whole: Any, where: str) -> None:
    """Objects are compared by the keys that `part` has, lists as a whole."""
    if isinstance(part, dict):
        assert part.keys() <= whole.keys(), f"{where}: {whole}"
        for key, value in part.items():
            assert_part(value, whole[key], f"{where}.{key}")
    elif isinstance(part, list):
        assert len(part) == len(whole), f"{where}: {whole}"
        for index, value in enumerate(part):
            assert_part(value, whole[index], f"{where}[{index}]")
    else:
        assert part == whole, where


def assert_over_grpc(client: Client, request: CheckRequest, want: dict[str, Any]) -> None:
    if "error" in want:
        with pytest.raises(grpc.RpcError) as failure:
            client.check(request)
        assert failure.value.code().name == want["error"]["grpc_status"]
        assert want["error"]["contains"] in failure.value.details()
        return
    assert_part(want["response"], json_format.MessageToDict(client.check(request)), "response")


def assert_through_envoy(envoy: EnvoyProxy, request: CheckRequest, want: dict[str, Any]) -> None:
    http = request.attributes.request.http
    raw = [(header.key, header.raw_value.decode()) for header in http.header_map.headers]
    headers = [(name, value) for name, value in [*http.headers.items(), *raw] if not name.startswith(":")]
    if http.host:
        headers.append(("host", http.host))
    body = http.raw_body or http.body.encode()
    response = envoy.request(http.path, method=http.method, headers=headers, body=body)
    assert response.status == want["status"], response
    for name, value in want.get("headers", {}).items():
        assert response.header(name) == value, (name, response)
    if "body" in want:
        assert response.body.decode() == want["body"]
    if "upstream_headers" in want or "upstream_absent" in want:
        sent = response.sent
        assert_part(want.get("upstream_headers", {}), sent, "upstream headers")
        assert sent.keys().isdisjoint(want.get("upstream_absent", ())), sent


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_case(folder: Path, mixer: Mixer, envoys: dict[str, EnvoyProxy], clients: list[Client]):
    want = json.loads((folder / "want.json").read_text())
    request = json_format.Parse((folder / "request.json").read_text(), CheckRequest())
    mixer.reload(lambda: mixer.configure({"policy": policy_settings(folder)}))
    counted = mixer.metric("mixer_checks_total", verdict=want["verdict"])
    for client in clients:
        assert_over_grpc(client, request, want)
    if "http" in want:
        assert_through_envoy(envoys[want["http"].get("envoy", "")], request, want["http"])
    checks = len(clients) + ("http" in want)
    assert mixer.metric("mixer_checks_total", verdict=want["verdict"]) == counted + checks

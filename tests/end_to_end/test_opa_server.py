"""mixer before a real OPA server, and gRPC bodies by a descriptor set that changes under a running mixer."""

from __future__ import annotations

import shutil
from pathlib import Path

import grpc
import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

from mixer_py.demo.processes import Ports
from tests.end_to_end.conftest import NO_ROWS, settings
from tests.parts.grpc_client import connect
from tests.parts.mixer_process import eventually
from tests.parts.opa_server import Opa
from tests.parts.presence import ROOT
from tests.parts.programs import Programs

LIBRARY = ROOT / "tests" / "cases" / "ext_authz" / "descriptors" / "library.pb"

GETS_ONLY = """package envoy.authz

allow := {"allowed": input.attributes.request.http.method == "GET", "headers": {"x-by": "opa"}}
"""

READER = """package envoy.authz

allow := {"allowed": true, "headers": {"x-reader": object.get(input, ["parsed_body", "readerName"], "nobody")}}
"""


def asking(method: str) -> CheckRequest:
    request = CheckRequest()
    request.attributes.request.http.method = method
    return request


@pytest.mark.opa
def test_an_opa_server_decides_and_nobody_gets_in_without_it(
    make_mixer, programs: Programs, ports: Ports, tmp_path: Path
):
    rules = tmp_path / "gets_only.rego"
    rules.write_text(GETS_ONLY)
    opa = Opa(programs, ports, [rules])
    server = {"url": opa.url, "timeout": "30s", "health_interval": "100ms"}
    mixer = make_mixer(telemetry=NO_ROWS, policy={"engine": "opa", "bundles": [], "opa": server})
    mixer.start()
    with connect(mixer.address) as client:
        allowed = client.check(asking("GET"))
        assert allowed.status.code == 0
        assert allowed.ok_response.headers[0].header.value == "opa"
        assert client.check(asking("POST")).status.code == 7
        eventually(lambda: mixer.metric("mixer_opa_up") == 1, "a healthy OPA")
        assert mixer.metric("mixer_checks_total", tier="opa", cache="bypass") == 2

        opa.kill()
        eventually(lambda: mixer.metric("mixer_opa_up") == 0, "an OPA that is away")
        with pytest.raises(grpc.RpcError) as failure:
            client.check(asking("GET"))
        assert failure.value.code() is grpc.StatusCode.UNKNOWN
        assert "cannot be asked" in failure.value.details()
        assert mixer.metric("mixer_opa_errors_total", reason="away") == 1

        opa.start()
        assert client.check(asking("GET")).status.code == 0
        eventually(lambda: mixer.metric("mixer_opa_up") == 1, "a healthy OPA")

        mixer.reload(lambda: mixer.configure(settings(mixer.folder, telemetry=NO_ROWS)))
        assert client.check(asking("POST")).status.code == 0
        eventually(lambda: mixer.metric("mixer_opa_up") == 0, "an OPA that nobody asks")
    opa.close()


def test_a_descriptor_set_that_changes_is_read_again(make_mixer, tmp_path: Path):
    descriptors = tmp_path / "library.pb"
    shutil.copy(LIBRARY, descriptors)
    mixer = make_mixer(READER, telemetry=NO_ROWS, policy={"proto_descriptor": "library.pb"})
    mixer.start()
    request = CheckRequest()
    http = request.attributes.request.http
    http.path = "/test.library.Library/Borrow"
    http.headers["content-type"] = "application/grpc"
    http.raw_body = b"\0\0\0\0\5\x0a\x03ann"

    def reader(client) -> str:
        return client.check(request).ok_response.headers[0].header.value

    with connect(mixer.address) as client:
        assert reader(client) == "ann"
        renamed = LIBRARY.read_bytes().replace(b"readerName", b"leaderName").replace(b"reader_name", b"leader_name")
        descriptors.write_bytes(renamed)
        eventually(lambda: reader(client) == "nobody", "the changed descriptor set")
        descriptors.write_bytes(b"\xff")
        eventually(lambda: mixer.metric("mixer_reloads_total", outcome="refused") == 1, "a refused set")
        assert reader(client) == "nobody"

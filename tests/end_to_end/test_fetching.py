"""A real mixer and a real HTTP server: signed bundles and key sets come, change, go bad, stay away and come back."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mixer_py.demo.processes import Ports
from tests.bundles.archives import pack, signatures
from tests.bundles.conftest import make_pair
from tests.bundles.web_server import Page, WebServer
from tests.parts.grpc_client import check_request, connect
from tests.parts.mixer_process import Mixer, eventually
from tests.parts.programs import Programs

KEY = make_pair(rsa.generate_private_key(65537, 2048))

TOKENS = """
package envoy.authz

import rego.v1

default allow := false

allow if {
    token := input.attributes.request.http.headers.authorization
    constraints := {"cert": json.marshal(data.idp.jwks), "aud": "mesh", "alg": "ES256"}
    [valid, _, payload] := io.jwt.decode_verify(token, constraints)
    valid
    payload.sub == "ann"
}
"""


def policy(version: str) -> str:
    return f'package envoy.authz\n\nallow := {{"allowed": true, "headers": {{"x-version": "{version}"}}}}\n'


def bundle(folder: Path, version: str, *, key: Any = KEY.private) -> bytes:
    files = {"p.rego": policy(version), ".manifest": json.dumps({"revision": version})}
    text = {**files, ".manifest": json.dumps({"revision": version}, separators=(",", ":"))}
    return pack(folder / "made.tar.gz", {**files, ".signatures.json": signatures(text, key, "RS256")}).read_bytes()


@pytest.fixture
def mixer(programs: Programs, ports: Ports, tmp_path: Path) -> Mixer:
    return Mixer(programs, ports, tmp_path)


@pytest.fixture
def place(ports: Ports) -> int:
    """The port of a server that is not there yet."""
    return ports.take()


@pytest.fixture
def servers() -> Iterator[list[WebServer]]:
    """Servers to end after the test."""
    started: list[WebServer] = []
    yield started
    for server in started:
        server.end()


def fetch(mixer: Mixer) -> dict[str, str]:
    return {"min_delay": "100ms", "max_delay": "200ms", "timeout": "5s", "folder": str(mixer.folder / "state")}


def decided(mixer: Mixer) -> tuple[int, str, str]:
    """Status, version and reasons of a check."""
    with connect(mixer.address) as client:
        response = client.check(check_request())
    headers = {option.header.key: option.header.value for option in response.ok_response.headers}
    return response.status.code, headers.get("x-version", ""), str(response.dynamic_metadata["mixer_reasons"])


def fetches(mixer: Mixer, outcome: str) -> float:
    return mixer.metric("mixer_fetches_total", outcome=outcome)


def in_force(mixer: Mixer, version: str) -> None:
    eventually(lambda: mixer.metric("mixer_bundle_info", revision=version) == 1, f"revision {version}")
    assert decided(mixer)[:2] == (0, version)


def is_answering(mixer: Mixer) -> bool:
    try:
        return mixer.get("/healthz/live").status == 200 and mixer.metric("mixer_worker_restarts_total") == 0
    except (OSError, AssertionError):
        return False


def wait_for_the_source(mixer: Mixer, url: str) -> None:
    """Mixer runs, is not ready, and denies with a reason that names the source."""
    mixer.start(ready=False)
    mixer.running.wait_until(lambda: is_answering(mixer) and fetches(mixer, "failed") > 0)
    wanted = f"{url} has not been fetched yet"
    eventually(lambda: wanted in mixer.get("/healthz/ready").body.decode(), "a readiness that names the source")
    assert mixer.get("/healthz/ready").status == 503
    code, _, reasons = decided(mixer)
    assert code == 7
    assert wanted in reasons


def test_a_signed_bundle_from_its_first_start_to_its_last_copy(
    mixer: Mixer, place: int, servers: list[WebServer], tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{place}/mesh.tar.gz"
    mixer.write("release.pem", KEY.public_pem)
    keys = {"k": {"algorithm": "RS256", "key": {"file": "release.pem"}}}
    mixer.configure({"policy": {"bundles": [url], "bundle_keys": keys, "fetch": fetch(mixer)}})
    wait_for_the_source(mixer, url)

    web = WebServer(place)
    servers.append(web)
    web.pages["/mesh.tar.gz"] = Page(bundle(tmp_path, "one"))
    eventually(lambda: mixer.get("/healthz/ready").status == 200, "a source that came")
    in_force(mixer, "one")
    first = mixer.revision()
    eventually(lambda: 304 in web.answers, "an answer that nothing has changed")

    web.pages["/mesh.tar.gz"] = Page(bundle(tmp_path, "two"))
    in_force(mixer, "two")
    assert mixer.revision() != first
    described = json.loads(mixer.get("/policies").body)["policies"]
    assert described["bundle_revisions"] == {url: "two"}

    web.pages["/mesh.tar.gz"] = Page(bundle(tmp_path, "forged", key=rsa.generate_private_key(65537, 2048)))
    eventually(lambda: fetches(mixer, "refused") == 1, "a refused bundle")
    assert decided(mixer)[:2] == (0, "two")
    (fault,) = json.loads(mixer.get("/config").body)["last_reload_faults"]
    assert f"{url}: the signature of the bundle does not hold: it was made with another key" in fault
    assert mixer.metric("mixer_reloads_total", outcome="refused") == 1

    failed = fetches(mixer, "failed")
    web.pages["/mesh.tar.gz"] = Page(status=500)
    eventually(lambda: fetches(mixer, "failed") > failed, "a source that fails")
    assert mixer.get("/healthz/ready").status == 200
    assert decided(mixer)[:2] == (0, "two")
    assert mixer.running.stop() == 0

    mixer.start()
    in_force(mixer, "two")
    assert mixer.running.stop() == 0

    (copy,) = (tmp_path / "state").glob("*.tar.gz")
    pack(copy, {"p.rego": policy("tampered")})
    wait_for_the_source(mixer, url)
    web.pages["/mesh.tar.gz"] = Page(bundle(tmp_path, "three"))
    in_force(mixer, "three")


def key_set(kid: str, private: ec.EllipticCurvePrivateKey) -> bytes:
    numbers = private.public_key().public_numbers()
    x, y = (base64.urlsafe_b64encode(n.to_bytes(32, "big")).rstrip(b"=").decode() for n in (numbers.x, numbers.y))
    return json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "x": x, "y": y}]}).encode()


def test_a_rotated_key_set_is_picked_up(mixer: Mixer, servers: list[WebServer]) -> None:
    web = WebServer()
    servers.append(web)
    old, new = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    web.pages["/jwks"] = Page(key_set("old", old))
    mixer.write("policy/tokens.rego", TOKENS)
    data = {"idp.jwks": {"url": web.url("/jwks"), "refresh": "1s"}}
    host = f"127.0.0.1:{web.port}"
    mixer.configure({"policy": {"bundles": ["policy"], "data": data, "data_hosts": [host], "fetch": fetch(mixer)}})
    mixer.start()

    def allows(private: Any, kid: str) -> bool:
        claims = {"sub": "ann", "aud": "mesh", "exp": int(time.time()) + 600}
        token = jwt.encode(claims, private, "ES256", headers={"kid": kid})
        with connect(mixer.address) as client:
            return client.check(check_request(headers={"authorization": token})).status.code == 0

    assert allows(old, "old")
    assert not allows(new, "new")
    web.pages["/jwks"] = Page(key_set("new", new))
    eventually(lambda: allows(new, "new"), "a rotated key")
    assert not allows(old, "old")
    web.pages["/jwks"] = Page(b"<html>out of order</html>")
    failed = fetches(mixer, "failed")
    eventually(lambda: fetches(mixer, "failed") > failed, "a document that is none")
    assert allows(new, "new")

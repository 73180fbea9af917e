"""Certificates that expire, are renewed, torn or of another authority, under mutual TLS between Envoy and mixer."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography import x509

from tests.faults.fault import Fault, State, While, again
from tests.faults.processes import HELD
from tests.faults.scene import Scene
from tests.parts.certificates import Authority, Certificate, put
from tests.parts.envoy_proxy import Bootstrap

TLS = "mutual TLS"
ENVOY = "spiffe://cluster.local/ns/istio-system/sa/gateway"
_LIFE = timedelta(seconds=15)
"""Of a certificate that is to expire: long enough to be put in force on a busy machine."""
_SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
_CONTEXT = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


class Certificates:
    """What mixer and Envoy show, and whom they believe; Envoy reads its own anew when `tell_envoy` has written them.

    Attributes:
        own: mixer's files.
        settings: `server.tls` of mixer.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._count = 0
        self._authority = Authority(folder)
        self.own = self._authority.issue("server")
        self._believed = folder / "believed.pem"  # mixer's list of authorities
        self._believe(self._authority)
        self.settings = {
            "certificate": str(self.own.certificate),
            "key": str(self.own.key),
            "client_ca": str(self._believed),
            "allow": [ENVOY],
        }
        self.show(self.issue("envoy"))

    def issue(
        self, who: str, ends: timedelta = timedelta(days=1), begins: timedelta = timedelta(days=-1)
    ) -> Certificate:
        """Another certificate, in files of its own: of mixer (`server`) or of Envoy."""
        self._count += 1
        uris = [ENVOY] if who == "envoy" else []
        return self._authority.issue(f"{who}-{self._count}", uris=uris, begins=begins, ends=ends)

    def show(self, shown: Certificate) -> None:
        """Lets Envoy show it to mixer, on connections that it makes from now on."""
        pair = {"certificate_chain": _file(shown.certificate), "private_key": _file(shown.key)}
        self._tell("shown", {"tls_certificate": pair})
        self._tell("trusted", {"validation_context": {"trusted_ca": _file(self._believed)}})

    def speak(self, bootstrap: Bootstrap) -> None:
        """Lets Envoy speak TLS to mixer, with secrets from files that it watches (SDS)."""
        names = ("shown", "trusted")
        secrets = [
            {"name": name, "sds_config": {"path_config_source": {"path": str(self._folder / f"{name}.json")}}}
            for name in names
        ]
        context = {
            "tls_certificate_sds_secret_configs": secrets[:1],
            "validation_context_sds_secret_config": secrets[1],
        }
        for cluster in bootstrap["static_resources"]["clusters"]:
            if cluster["name"] == "mixer":
                cluster["transport_socket"] = {
                    "name": "envoy.transport_sockets.tls",
                    "typed_config": {"@type": _CONTEXT, "common_tls_context": context},
                }
        bootstrap.setdefault("node", {"id": "edge", "cluster": "edge"})

    def change_authority(self) -> Iterator[None]:
        """Both are believed; then those of the new one are shown; then only that is believed. A step at each `next`."""
        before = self._authority
        self._count += 1
        self._authority = Authority(self._folder, f"authority-{self._count}")
        self._believe(before, self._authority)
        yield
        put(self.issue("server"), self.own)
        shown = self.issue("envoy")
        self.show(shown)
        yield
        self._believe(self._authority)
        self.show(shown)
        yield

    def _believe(self, *authorities: Authority) -> None:
        draft = self._believed.with_suffix(".draft")
        draft.write_bytes(b"".join(one.certificate.read_bytes() for one in authorities))
        draft.replace(self._believed)

    def _tell(self, name: str, secret: dict[str, Any]) -> None:
        """Writes what Envoy watches: it reads a file again when one is moved over it."""
        file = self._folder / f"{name}.json"
        draft = file.with_suffix(".draft")
        resource = {"@type": _SECRET, "name": name, **secret}
        draft.write_text(json.dumps({"version_info": str(time.monotonic_ns()), "resources": [resource]}))
        draft.replace(file)


def _file(path: Path) -> dict[str, str]:
    return {"inline_string": path.read_text(encoding="ascii")}


def _of(scene: Scene) -> Certificates:
    found: Certificates = scene.parts["certificates"]
    return found


def _until_it_expires(issued: Certificate) -> None:
    ends = x509.load_pem_x509_certificate(issued.certificate.read_bytes()).not_valid_after_utc
    time.sleep(max(0.0, ends.timestamp() - time.time()) + 1.0)


def _shown(scene: Scene) -> str:
    """The certificate that mixer shows to a new connection, PEM; empty when it does not let us ask."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection(("127.0.0.1", scene.mixer.grpc), timeout=30) as plain,
            context.wrap_socket(plain) as secure,
        ):
            shown = secure.getpeercert(binary_form=True)
    except OSError:
        return ""
    return ssl.DER_cert_to_PEM_cert(shown).strip() if shown else ""


def _in_force(scene: Scene, certificate: Path) -> bool:
    return _shown(scene) == certificate.read_text(encoding="ascii").strip()


def _put(scene: Scene, issued: Certificate) -> None:
    """Writes it over mixer's, and waits until new connections see it."""
    put(issued, _of(scene).own)
    scene.eventually(lambda: _in_force(scene, issued.certificate), "a certificate that was put in force")


def _renew(scene: Scene) -> None:
    _put(scene, _of(scene).issue("server"))


def _renew_and_connect_anew(scene: Scene) -> None:
    """Server's and client's, and connections that are made with them."""
    _renew(scene)
    _of(scene).show(_of(scene).issue("envoy"))
    scene.parts["proxy"].cut()


@contextmanager
def _expired_files(scene: Scene) -> Iterator[None]:
    """What somebody has put there has expired already."""
    names = _of(scene)
    before = names.issue("server")
    _put(scene, before)
    put(names.issue("server", timedelta(days=-1), timedelta(days=-2)), names.own)
    _refused(scene)
    try:
        yield
        if scene.mixer.running.exit_code is None and not _in_force(scene, before.certificate):
            scene.complaints.append("a certificate that has expired was put in force")
    finally:
        put(names.issue("server"), names.own)


@contextmanager
def _torn_files(scene: Scene) -> Iterator[None]:
    """A certificate whose key has not come."""
    names = _of(scene)
    names.own.certificate.write_bytes(names.issue("server").certificate.read_bytes())
    _refused(scene)
    try:
        yield
    finally:
        put(names.issue("server"), names.own)


def _refused(scene: Scene) -> None:
    def told() -> bool:
        return bool(json.loads(scene.mixer.get("/config").body)["certificate_faults"])

    scene.eventually(told, "a certificate that is refused")


def _kept(state: State) -> While:
    """While it lasts, connections are made anew: with the certificate that was there before."""

    def inject(scene: Scene) -> None:
        with state(scene):
            scene.parts["proxy"].cut()
            time.sleep(2.0)
        scene.eventually(lambda: not json.loads(scene.mixer.get("/config").body)["certificate_faults"], "a good one")

    return While(state, inject)


def _closed(scene: Scene, what: str) -> None:
    """From now on nothing passes, until somebody mends it."""
    time.sleep(1.0)
    begun = time.monotonic()
    time.sleep(1.5)
    passed = [one for one in scene.traffic.since(begun) if not one.failed]
    if passed:
        scene.complaints.append(f"{len(passed)} requests passed with {what}")


@contextmanager
def _server_expired(scene: Scene) -> Iterator[None]:
    """Mixer's expires in force. What is connected stays so; who connects anew does not believe it."""
    issued = _of(scene).issue("server", _LIFE)
    _put(scene, issued)
    scene.parts["proxy"].cut()
    _until_it_expires(issued)
    scene.parts["proxy"].cut()
    try:
        yield
    finally:
        put(_of(scene).issue("server"), _of(scene).own)


def _server_expires(scene: Scene) -> None:
    with _server_expired(scene):
        _closed(scene, "a certificate of mixer that has expired")
    scene.eventually(lambda: _in_force(scene, _of(scene).own.certificate), "a certificate that was put in force")


@contextmanager
def _client_expired(scene: Scene) -> Iterator[None]:
    """Envoy's expires while it is connected, and nobody has renewed it."""
    issued = _of(scene).issue("envoy", _LIFE)
    _of(scene).show(issued)
    time.sleep(1.0)
    scene.parts["proxy"].cut()
    _until_it_expires(issued)
    try:
        yield
    finally:
        _of(scene).show(_of(scene).issue("envoy"))


def _client_expires(scene: Scene) -> None:
    with _client_expired(scene):
        _closed(scene, "a certificate of Envoy that has expired")
    time.sleep(1.0)
    scene.parts["proxy"].cut()


@contextmanager
def _authority_changed(scene: Scene) -> Iterator[None]:
    """Half-way: both are believed, and certificates of the new one have just been written."""
    steps = _of(scene).change_authority()
    next(steps)
    next(steps)
    scene.parts["proxy"].cut()
    try:
        yield
    finally:
        next(steps)


def _change_authority(scene: Scene) -> None:
    for _ in _of(scene).change_authority():
        time.sleep(2.0)
        scene.parts["proxy"].cut()
        time.sleep(1.0)


FAULTS = (
    Fault("mixer's certificate renewed five times", TLS, "no call notices", again(_renew, 5, 0.0)),
    Fault(
        "both certificates renewed, and all connections made anew",
        TLS,
        "calls that are cut off may fail, no others",
        again(_renew_and_connect_anew, 3, 1.0),
        3 * HELD,
        2,
    ),
    Fault(
        "another authority, step by step",
        TLS,
        "calls that are cut off may fail, no others",
        While(_authority_changed, _change_authority),
        3 * HELD,
        2,
    ),
    Fault(
        "mixer's new certificate has expired already",
        TLS,
        "it is refused, and the one before stays",
        _kept(_expired_files),
        HELD,
        2,
    ),
    Fault(
        "mixer's new certificate without its key",
        TLS,
        "it is refused, and the one before stays",
        _kept(_torn_files),
        HELD,
        2,
    ),
    Fault(
        "mixer's certificate expires",
        TLS,
        "who connects anew fails closed, until it is renewed",
        While(_server_expired, _server_expires),
        None,
        5,
    ),
    Fault(
        "Envoy's certificate expires",
        TLS,
        "its calls are refused, also on connections that it has, until it is renewed",
        While(_client_expired, _client_expires),
        None,
        5,
    ),
)

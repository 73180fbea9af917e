"""The files of the listeners' TLS: what is wrong with them is told, and never replaces what is in force."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from mixer_py.config.configuration import Configuration
from mixer_py.errors import ConfigurationError
from mixer_py.instruments import Registry, SystemClock
from mixer_py.runtime.certificate_files import read_all
from mixer_py.runtime.certificates import Certificates
from tests.parts.certificates import Authority, put

ADDRESS = "127.0.0.1:9091"


class Files:
    """A listener's files, good to begin with."""

    def __init__(self, folder) -> None:
        self.authority = Authority(folder)
        self.own = self.authority.issue("server")
        self.tls = {
            "certificate": str(self.own.certificate), "key": str(self.own.key),
            "client_ca": str(self.authority.certificate),
        }  # fmt: skip

    def server(self, **more):
        return Configuration.model_validate({"server": {"tls": {**self.tls, **more}}}).server

    def certificates(self) -> Certificates:
        return Certificates(self.server(), Registry(), SystemClock())

    def faults(self) -> list[tuple[str, str]]:
        return [(fault.field.rpartition(".")[2], fault.message) for fault in self.read()[1]]

    def read(self):
        return read_all(self.server(), SystemClock().wall())


@pytest.fixture
def files(tmp_path) -> Files:
    return Files(tmp_path)


def counted(certificates: Certificates, outcome: str) -> float:
    return certificates._renewals.labels(ADDRESS, outcome).value


def test_good_files_are_read(files):
    shown, faults = files.read()
    assert faults == []
    assert shown[ADDRESS].credentials.key == files.own.key.read_bytes()
    assert "PRIVATE" not in repr(shown)
    assert 0 < shown[ADDRESS].expires - SystemClock().wall() <= timedelta(days=1).total_seconds()


def test_files_that_are_not_there_are_all_named(files):
    files.own.key.unlink()
    files.authority.certificate.unlink()
    assert files.faults() == [
        ("key", "cannot be read: No such file or directory"),
        ("client_ca", "cannot be read: No such file or directory"),
    ]


def no_certificate(files):
    files.own.certificate.write_text("hello")
    return "certificate", "holds no certificate in PEM"


def a_torn_certificate(files):
    files.own.certificate.write_bytes(files.own.certificate.read_bytes()[:-60])
    return "certificate", "holds no certificate in PEM"


def an_expired_certificate(files):
    put(files.authority.issue("old", begins=timedelta(days=-2), ends=timedelta(days=-1)), files.own)
    return "certificate", "the certificate expired at "


def a_certificate_of_tomorrow(files):
    put(files.authority.issue("early", begins=timedelta(hours=1)), files.own)
    return "certificate", "the certificate is good only from "


def an_expired_one_behind_it(files):
    old = files.authority.issue("old", begins=timedelta(days=-2), ends=timedelta(days=-1))
    files.own.certificate.write_bytes(files.own.certificate.read_bytes() + old.certificate.read_bytes())
    return "certificate", "certificate 2 in it expired at "


def another_key(files):
    files.own.key.write_bytes(files.authority.issue("other").key.read_bytes())
    return "key", f"is not the key of {files.own.certificate}"


def a_locked_key(files):
    key = ec.generate_private_key(ec.SECP256R1())
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
    files.own.key.write_bytes(locked)
    return "key", "is locked with a password"


def no_key(files):
    files.own.key.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    return "key", "holds no private key in PEM"


def no_authority(files):
    files.authority.certificate.write_text("")
    return "client_ca", "holds no certificate in PEM"


def an_expired_authority(files):
    old = files.authority.issue("old", begins=timedelta(days=-2), ends=timedelta(days=-1))
    files.authority.certificate.write_bytes(old.certificate.read_bytes())
    return "client_ca", "every authority in it has expired"


FAULTY = [
    no_certificate, a_torn_certificate, an_expired_certificate, a_certificate_of_tomorrow, an_expired_one_behind_it,
    another_key, a_locked_key, no_key, no_authority, an_expired_authority,
]  # fmt: skip


@pytest.mark.parametrize("spoil", FAULTY)
def test_what_is_wrong_is_told_and_mixer_does_not_start_with_it(files, spoil):
    field, message = spoil(files)
    ((found, told),) = files.faults()
    assert found == field
    assert told.startswith(message)
    with pytest.raises(ConfigurationError, match=r"server\.tls"):
        files.certificates()


@pytest.mark.parametrize("spoil", FAULTY)
def test_what_is_wrong_never_replaces_what_is_in_force(files, spoil):
    certificates = files.certificates()
    before = certificates.credentials
    good = files.authority.certificate.read_bytes()
    spoil(files)
    for _ in range(2):
        assert certificates.renew(files.server()) is False
        assert certificates.credentials == before
        assert len(certificates.faults) == 1
        assert counted(certificates, "refused") == 1, "once a fault, not once a look"
    files.authority.certificate.write_bytes(good)
    put(files.authority.issue("new"), files.own)
    assert certificates.renew(files.server()) is True
    assert certificates.faults == ()
    assert certificates.credentials != before
    assert counted(certificates, "renewed") == 1


KEYS = {
    "Ed25519": (ed25519.Ed25519PrivateKey.generate, False),
    "P-521": (lambda: ec.generate_private_key(ec.SECP521R1()), False),
    "secp256k1": (lambda: ec.generate_private_key(ec.SECP256K1()), False),
    "RSA 1024": (lambda: rsa.generate_private_key(65537, 1024), False),  # noqa: S505 (it is refused)
    "RSA 2048": (lambda: rsa.generate_private_key(65537, 2048), True),
    "P-256": (lambda: ec.generate_private_key(ec.SECP256R1()), True),
    "P-384": (lambda: ec.generate_private_key(ec.SECP384R1()), True),
}


@pytest.mark.parametrize("kind", KEYS)
def test_keys_that_envoy_and_grpc_do_not_take_are_refused(files, kind):
    make, good = KEYS[kind]
    put(files.authority.issue("own", key=make()), files.own)
    assert files.faults() == ([] if good else [("key", "is of a kind that Envoy and gRPC do not take")])


def test_a_list_of_peers_that_changes_is_told_to_the_workers(files):
    certificates = files.certificates()
    assert certificates.renew(files.server()) is False
    assert certificates.renew(files.server(allow=["a.example"])) is True
    assert certificates.renew(files.server(allow=["a.example"])) is False


def test_only_files_of_certificates_are_its_own(files, tmp_path):
    certificates = files.certificates()
    changed = frozenset({files.own.key, tmp_path / "policy.rego"})
    assert certificates.notice(changed) == {tmp_path / "policy.rego"}


def test_each_listeners_end_is_a_metric(files):
    (sample,) = files.certificates().metric().samples
    assert sample.labels == {"listener": ADDRESS}
    assert sample.value == files.read()[0][ADDRESS].expires


def test_a_fault_names_the_key_that_named_the_file(files, tmp_path):
    listeners = [{"address": ADDRESS, "tls": {"key": str(tmp_path / "none")}}, {"address": "127.0.0.1:2"}]
    server = Configuration.model_validate({"server": {"tls": files.tls, "listeners": listeners}}).server
    shown, faults = read_all(server, SystemClock().wall())
    assert [fault.field for fault in faults] == ["server.listeners.0.tls.key"]
    assert list(shown) == ["127.0.0.1:2"]
    assert server.peers_of(server.listeners[0])["access_log"] is None

"""Certificates: one for 127.0.0.1 that vouches for itself, and authorities that issue what a test asks for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


class Certificate(NamedTuple):
    """Two files, PEM."""

    certificate: Path
    key: Path


def make_certificate(folder: Path, name: str = "server", *, uri: str = "") -> Certificate:
    """Makes one that is good for a day; with `uri` also for that name, as a workload's."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    names = [x509.IPAddress(ip_address("127.0.0.1")), *([x509.UniformResourceIdentifier(uri)] if uri else [])]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    files.certificate.write_bytes(made.public_bytes(Encoding.PEM))
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


class Authority:
    """An authority with its own key, and what it issues, as files in a folder.

    Attributes:
        certificate: its own, PEM.
    """

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        made = self._signed(
            self._name, self._key.public_key(), now - timedelta(days=1), now + timedelta(days=1), ca=True
        )
        self.certificate = folder / f"{name}.pem"
        self.certificate.write_bytes(made.public_bytes(Encoding.PEM))

    def issue(
        self,
        name: str,
        *,
        dns: Sequence[str] = (),
        uris: Sequence[str] = (),
        addresses: Sequence[str] = ("127.0.0.1",),
        begins: timedelta = timedelta(days=-1),
        ends: timedelta = timedelta(days=1),
        usage: Sequence[x509.ObjectIdentifier] = (),
        key: CertificateIssuerPrivateKeyTypes | None = None,
    ) -> Certificate:
        """A certificate and its key, as `name.pem` and `name.key`; the times count from now."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        names = [
            *(x509.IPAddress(ip_address(one)) for one in addresses),
            *(x509.DNSName(one) for one in dns),
            *(x509.UniformResourceIdentifier(one) for one in uris),
        ]
        now = datetime.now(UTC)
        made = self._signed(subject, key.public_key(), now + begins, now + ends, names=names, usage=usage)
        files = Certificate(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        files.certificate.write_bytes(made.public_bytes(Encoding.PEM))
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files

    def _signed(self, subject, public_key, begins, ends, *, ca=False, names=(), usage=()) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def put(source: Certificate, target: Certificate) -> None:
    """Writes a certificate and its key over another's files, each at once."""
    for written, place in zip(source, target, strict=True):
        draft = place.with_name(f".{place.name}.draft")
        draft.write_bytes(written.read_bytes())
        draft.replace(place)

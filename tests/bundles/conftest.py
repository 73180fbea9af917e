"""Keys that the tests of bundles share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


@dataclass(frozen=True, slots=True)
class Pair:
    """A private key, its PEM, the public half's PEM, and a certificate's PEM."""

    private: Any
    private_pem: str
    public_pem: str
    certificate: str = ""


def make_pair(private: Any) -> Pair:
    public = private.public_key()
    return Pair(
        private,
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
    )


@pytest.fixture(scope="session")
def rsa_pair() -> Pair:
    private = rsa.generate_private_key(65537, 2048)
    pair = make_pair(private)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bundles")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(private, hashes.SHA256())
    )
    return Pair(private, pair.private_pem, pair.public_pem, certificate.public_bytes(Encoding.PEM).decode())


@pytest.fixture(scope="session")
def other_rsa_pair() -> Pair:
    return make_pair(rsa.generate_private_key(65537, 2048))


@pytest.fixture(scope="session")
def pairs(rsa_pair: Pair) -> dict[str, Pair]:
    """A pair for each family of algorithms."""
    return {
        "RS": rsa_pair,
        "PS": rsa_pair,
        "ES256": make_pair(ec.generate_private_key(ec.SECP256R1())),
        "ES384": make_pair(ec.generate_private_key(ec.SECP384R1())),
        "ES512": make_pair(ec.generate_private_key(ec.SECP521R1())),
        "EdDSA": make_pair(ed25519.Ed25519PrivateKey.generate()),
    }


@pytest.fixture(scope="session")
def server_certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(2)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_text(make_pair(private).private_pem)
    return folder / "certificate.pem", folder / "key.pem"

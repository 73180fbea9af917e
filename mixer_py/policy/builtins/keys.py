"""The keys that tokens are verified and signed with: PEM certificates and public keys, and JSON Web Keys.

What is accepted is what OPA 1.22 accepts, through Go's x509 and lestrrat-go/jwx: one PEM block and nothing behind it,
or one JWK or a set in which every key must be readable.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509 import load_der_x509_certificate

from mixer_py.policy.builtins.documents import parse_json
from mixer_py.policy.builtins.operands import decode_base64

Key = (
    rsa.RSAPublicKey
    | ec.EllipticCurvePublicKey
    | ed25519.Ed25519PublicKey
    | rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | bytes
    | None
)
"""A key of a kind that signs; bytes are a shared secret; None is a key of another kind, which verifies nothing."""

ALGORITHMS: Final = frozenset(f"{family}{bits}" for family in ("RS", "PS", "ES", "HS") for bits in (256, 384, 512)) | {
    "EdDSA"
}
"""Algorithms by which tokens are signed; a key that names another one is passed over."""

_PEM: Final = re.compile(
    r"-----BEGIN (?P<type>[^\n-]+)-----[ \t\r]*\n(?P<content>.*?)\n?-----END (?P=type)-----[ \t\r]*(?:\n|$)", re.DOTALL
)
_PEM_HEADERS: Final = re.compile(r"(?:[^\n:]+:[^\n]*\n)*\s*")
_CURVES: Final[Mapping[str, ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
}


@dataclass(frozen=True, slots=True)
class Pem:
    """A PEM block: its type, its content, and the text behind it."""

    type: str
    content: bytes
    rest: str


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key with what its JWK says of it; empty texts where it says nothing."""

    algorithm: str
    identifier: str
    key: Key


def read_pem(text: str) -> Pem | None:
    """The first PEM block in a text, what stands before it passed over."""
    position = 0
    while (found := _PEM.search(text, position)) is not None:
        headers = _PEM_HEADERS.match(found["content"])
        body = found["content"][headers.end() if headers is not None else 0 :]
        try:
            return Pem(found["type"], decode_base64(re.sub(r"\s", "", body)), text[found.end() :])
        except ValueError:
            position = found.start() + 1
    return None


def read_keys(text: str) -> tuple[VerificationKey, ...]:
    """The keys in a PEM certificate, a PEM public key, a JWK or a set of JWKs.

    Raises:
        ValueError: it is none of these.
    """
    block = read_pem(text)
    if block is None:
        return tuple(
            VerificationKey(algorithm, identifier, read_jwk(entry))
            for entry in jwk_entries(text)
            for algorithm, identifier in [(_text_member(entry, "alg"), _text_member(entry, "kid"))]
            if not algorithm or algorithm in ALGORITHMS
        )
    if block.rest:
        raise ValueError("there is more behind the PEM block")
    if block.type == "CERTIFICATE":
        return (VerificationKey("", "", _known(load_der_x509_certificate(block.content).public_key())),)
    if block.type == "PUBLIC KEY":
        return (VerificationKey("", "", _known(load_der_public_key(block.content))),)
    raise ValueError("the PEM block holds neither a certificate nor a public key")


def jwk_entries(text: str) -> list[Mapping[str, Any]]:
    """The keys of a set of JWKs, or the one that stands alone, as JSON objects.

    Raises:
        ValueError: it is neither.
    """
    document = parse_json(text.encode())
    if not isinstance(document, dict):
        raise TypeError("a JWK is an object")
    entries = document["keys"] if "keys" in document and "kty" not in document else [document]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise TypeError("the keys of a set are an array of objects")
    for entry in entries:
        read_jwk(entry)  # one that cannot be read spoils the set
    return entries


def read_jwk(entry: Mapping[str, Any]) -> Key:
    """The key that a JWK describes; a private one when it says so.

    Raises:
        ValueError: a member is missing or impossible.
    """
    kind = entry.get("kty")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise ValueError("a JWK of an unknown type")
    return reader(entry)


def _read_rsa(entry: Mapping[str, Any]) -> Key:
    public = rsa.RSAPublicNumbers(_number_member(entry, "e"), _number_member(entry, "n"))
    if "d" not in entry:
        return public.public_key()
    exponent = _number_member(entry, "d")
    if "p" in entry and "q" in entry:
        p, q = _number_member(entry, "p"), _number_member(entry, "q")
    else:
        p, q = rsa.rsa_recover_prime_factors(public.n, public.e, exponent)
    exponents = rsa.rsa_crt_dmp1(exponent, p), rsa.rsa_crt_dmq1(exponent, q)
    return rsa.RSAPrivateNumbers(p, q, exponent, *exponents, rsa.rsa_crt_iqmp(p, q), public).private_key()


def _read_ec(entry: Mapping[str, Any]) -> Key:
    curve = _CURVES[_text_member(entry, "crv")]
    public = ec.EllipticCurvePublicNumbers(_number_member(entry, "x"), _number_member(entry, "y"), curve)
    if "d" not in entry:
        return public.public_key()
    return ec.EllipticCurvePrivateNumbers(_number_member(entry, "d"), public).private_key()


def _read_okp(entry: Mapping[str, Any]) -> Key:
    public = _bytes_member(entry, "x")
    match _text_member(entry, "crv"):
        case "Ed25519" if "d" in entry:
            return ed25519.Ed25519PrivateKey.from_private_bytes(_bytes_member(entry, "d"))
        case "Ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(public)
        case "X25519":
            return None
    raise ValueError("an octet key pair of an unknown curve")


def _read_oct(entry: Mapping[str, Any]) -> Key:
    return _bytes_member(entry, "k")


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any]], Key]]] = {
    "RSA": _read_rsa,
    "EC": _read_ec,
    "OKP": _read_okp,
    "oct": _read_oct,
}


def _known(key: object) -> Key:
    return key if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) else None


def _text_member(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name, "")
    if not isinstance(value, str):
        raise TypeError(f"the JWK's {name} is no text")
    return value


def _bytes_member(entry: Mapping[str, Any], name: str) -> bytes:
    text = _text_member(entry, name)
    if not text:
        raise ValueError(f"the JWK has no {name}")
    standard = text.replace("-", "+").replace("_", "/").rstrip("=")
    return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)


def _number_member(entry: Mapping[str, Any], name: str) -> int:
    return int.from_bytes(_bytes_member(entry, name))

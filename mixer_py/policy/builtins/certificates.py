"""`crypto.x509.*` as OPA 1.22 has them: certificates, requests and private keys, and chains held to options."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key
from cryptography.utils import CryptographyDeprecationWarning

from mixer_py.policy.builtins.chains import USAGES, Options, verify_chain
from mixer_py.policy.builtins.descriptions import describe, describe_request, private_jwk, uri_strings
from mixer_py.policy.builtins.keys import read_pem
from mixer_py.policy.builtins.operands import decode_base64, integer, mapping, string

_BEGIN: Final = "-----BEGIN"
_LONGEST_DER_LENGTH: Final = 0x80
_OPTIONS: Final = frozenset({"DNSName", "CurrentTime", "MaxConstraintComparisons", "KeyUsages"})


def builtins() -> tuple[tuple[str, int, Callable[..., object]], ...]:
    """Name, number of arguments, and function of each."""
    return (
        ("crypto.x509.parse_and_verify_certificates", 1, parse_and_verify),
        ("crypto.x509.parse_and_verify_certificates_with_options", 2, parse_and_verify_with_options),
        ("crypto.x509.parse_certificate_request", 1, parse_request),
        ("crypto.x509.parse_certificates", 1, parse),
        ("crypto.x509.parse_rsa_private_key", 1, parse_private_key),
    )


def parse(text: object) -> list[dict[str, Any]]:
    """`crypto.x509.parse_certificates(certs)`: PEM blocks, or base64 of them or of DER."""
    return [describe(one) | uri_strings(one) for one in _read(string(text))]


def parse_and_verify(text: object) -> list[object]:
    """`crypto.x509.parse_and_verify_certificates(certs)`: whether root, …, leaf are a chain for a server."""
    return _verified(string(text), Options, uri_strings)


def parse_and_verify_with_options(text: object, options: object) -> list[object]:
    """`crypto.x509.parse_and_verify_certificates_with_options(certs, options)`."""
    given = mapping(options)
    return _verified(string(text), lambda: _options(given), lambda _: {})


def parse_request(text: object) -> dict[str, Any]:
    """`crypto.x509.parse_certificate_request(csr)`: a PEM block, or base64 of it or of DER."""
    content = string(text)
    if not content.startswith(f"{_BEGIN} CERTIFICATE REQUEST-----"):
        der = decode_base64(content)
        content = der.decode("latin-1")
    else:
        der = b""
    block = read_pem(content)
    if block is not None and block.type != "CERTIFICATE REQUEST":
        raise ValueError("no certificate request")
    request = x509.load_der_x509_csr(block.content if block is not None else der)
    return describe_request(request)


def parse_private_key(text: object) -> dict[str, str] | None:
    """`crypto.x509.parse_rsa_private_key(pem)`: the first private key as a JWK, of whatever kind it is."""
    content = string(text)
    if not content:
        raise ValueError("no text")
    if not content.startswith(_BEGIN):
        content = decode_base64(content).decode("latin-1")
    while (block := read_pem(content)) is not None:
        if block.type in {"RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY"}:
            return private_jwk(load_der_private_key(block.content, None))
        content = block.rest
    return None


def _verified(
    text: str, options: Callable[[], Options], further: Callable[[x509.Certificate], Mapping[str, object]]
) -> list[object]:
    try:
        certificates = _read(text)
    except ValueError:
        return [False, []]
    wanted = options()
    try:
        chain = verify_chain(certificates, wanted)
    except ValueError:
        return [False, []]
    return [True, [{**describe(one), **further(one)} for one in chain]]


def _options(given: Mapping[object, object]) -> Options:
    if not {key for key in given if isinstance(key, str)} <= _OPTIONS:
        raise ValueError("an unknown option")
    usages = given.get("KeyUsages", [])
    if not isinstance(usages, list | set | frozenset):
        raise TypeError("KeyUsages is an array or a set")
    numbers = frozenset(USAGES[name.strip('"')] for name in usages if isinstance(name, str))
    if "MaxConstraintComparisons" in given:
        integer(given["MaxConstraintComparisons"])
    moment = integer(given["CurrentTime"]) if "CurrentTime" in given else None
    return Options(string(given.get("DNSName", "")).strip('"'), moment, numbers)


def _read(text: str) -> list[x509.Certificate]:
    if not text.startswith(_BEGIN):
        content = decode_base64(text)
        if not content.startswith(_BEGIN.encode()):
            return list(_split(content))
        text = content.decode("latin-1")
    certificates: list[x509.Certificate] = []
    while (block := read_pem(text)) is not None:
        if block.type != "CERTIFICATE":
            raise ValueError("a PEM block that is no certificate")
        certificates.extend(_split(block.content))
        text = block.rest
    return certificates


def _split(content: bytes) -> Iterator[x509.Certificate]:
    """Certificates in DER, one behind the other."""
    while content:
        if len(content) < 2:
            raise ValueError("no certificate")
        size, octets = content[1], 0
        if size >= _LONGEST_DER_LENGTH:
            octets = size - _LONGEST_DER_LENGTH
            size = int.from_bytes(content[2 : 2 + octets])
        end = 2 + octets + size
        with warnings.catch_warnings():  # of serial numbers that are no good, which are not ours
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            yield x509.load_der_x509_certificate(content[:end])
        content = content[end:]

"""Tokens and certificates in the embedded engine against a real OPA: keys of every kind, and attacks on tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mixer_py.demo.processes import Ports
from mixer_py.policy.builtins.tokens import Tokens
from tests.parts.engines import ask_all
from tests.parts.opa_server import Opa
from tests.parts.programs import Programs

pytestmark = pytest.mark.opa

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
CLAIMS = {"sub": "a", "n": 1.5}
ALGORITHMS = ("RS256", "RS512", "PS384", "ES256", "ES384", "ES512", "EdDSA", "HS256")


@pytest.fixture(scope="module")
def opa(module_programs: Programs, ports: Ports) -> Iterator[Opa]:
    server = Opa(module_programs, ports)
    yield server
    server.close()


@pytest.fixture(scope="module")
def keys() -> dict[str, Key]:
    return {
        "rsa": rsa.generate_private_key(65537, 2048),
        "p256": ec.generate_private_key(ec.SECP256R1()),
        "p384": ec.generate_private_key(ec.SECP384R1()),
        "p521": ec.generate_private_key(ec.SECP521R1()),
        "ed": ed25519.Ed25519PrivateKey.generate(),
    }


def pem(key: Key) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def header(members: Mapping[str, Any]) -> str:
    return encoded(json.dumps(members).encode())


def jwk(key: Key, **members: str) -> dict[str, Any]:
    match key:
        case rsa.RSAPrivateKey():
            numbers = key.public_key().public_numbers()
            return {"kty": "RSA", "n": encoded(numbers.n.to_bytes(256)), "e": "AQAB", **members}
        case ec.EllipticCurvePrivateKey():
            size, point = (key.curve.key_size + 7) // 8, key.public_key().public_numbers()
            place = {"x": encoded(point.x.to_bytes(size)), "y": encoded(point.y.to_bytes(size))}
            return {"kty": "EC", "crv": f"P-{key.curve.key_size}", **place, **members}
    return {"kty": "OKP", "crv": "Ed25519", "x": encoded(key.public_key().public_bytes_raw()), **members}


def signed(key: Key | bytes, algorithm: str, headers: Mapping[str, Any] | None = None, **claims: Any) -> str:
    return jwt.encode({**CLAIMS, **claims}, key, algorithm=algorithm, headers=dict(headers or {}))


def forged(secret: str, algorithm: str = "HS256") -> str:
    """A token signed with a text that everybody knows, such as a public key, as if it were a shared secret."""
    content = f"{header({'alg': algorithm})}.{header({})}"
    return f"{content}.{encoded(hmac.digest(secret.encode(), content.encode(), hashlib.sha256))}"


def tokens(keys: Mapping[str, Key]) -> list[str]:
    good = [
        signed(keys["rsa"], "RS256"),
        signed(keys["rsa"], "RS512", {"kid": "one"}),
        signed(keys["rsa"], "PS384", {"kid": "two"}),
        signed(keys["p256"], "ES256"),
        signed(keys["p384"], "ES384"),
        signed(keys["p521"], "ES512"),
        signed(keys["ed"], "EdDSA"),
        signed(b"s" * 32, "HS256"),
    ]
    first, second, third = good[0].split(".")
    others = [
        f"{first}.{second}.{encoded(b'x' * 256)}",
        f"{first}.{second}.",
        f"{first}.{second}.{third[:-1]}B",
        f"{first}.{second}.{third}=",
        f"{first}.{second}\n.{third}",
        f"{header({'alg': 'none'})}.{second}.",
        f"{header({'alg': 'none'})}.{second}.{third}",
        f"{header({'alg': 'HS256', 'crit': ['b64'], 'b64': False})}.{second}.{third}",
        f"{header({'alg': 1})}.{second}.{third}",
        f"{header({})}.{second}.{third}",
        f"{first}.{second}",
    ]
    return [*good, *others, forged(pem(keys["rsa"])), forged(pem(keys["rsa"]), "RS256"), forged("s" * 32)]


def trusted(keys: Mapping[str, Key]) -> list[str]:
    every = [jwk(key) for key in keys.values()]
    return [
        *map(pem, keys.values()),
        json.dumps(jwk(keys["rsa"])),
        json.dumps(jwk(keys["p256"], alg="ES256", kid="one")),
        json.dumps({"keys": every}),
        json.dumps({"keys": [jwk(keys["p256"], kid="one"), jwk(keys["rsa"], kid="two", alg="PS384")]}),
        json.dumps({"keys": [jwk(keys["rsa"], alg="RSA-OAEP"), jwk(keys["ed"])]}),
        json.dumps({"keys": [{"kty": "oct", "k": encoded(b"s" * 32)}, *every]}),
        json.dumps({"keys": [*every, {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}),
        json.dumps({"kty": "unknown"}),
        pem(keys["rsa"]) + pem(keys["p256"]),
        "no key",
    ]


@pytest.mark.parametrize("algorithm", [name.lower() for name in ALGORITHMS])
def test_signatures_are_verified_alike(opa: Opa, keys: dict[str, Key], algorithm: str) -> None:
    secrets = ["s" * 32, pem(keys["rsa"])] if algorithm == "hs256" else trusted(keys)
    pairs: list[object] = [[token, key] for token in tokens(keys) for key in secrets]
    assert ask_all(opa, f"one(c) := io.jwt.verify_{algorithm}(c[0], c[1])", pairs) == []


def test_tokens_are_decoded_and_verified_alike(opa: Opa, keys: dict[str, Key]) -> None:
    given = [{"cert": key} for key in trusted(keys)] + [{"secret": "s" * 32}, {"secret": pem(keys["rsa"])}]
    pairs: list[object] = [[token, constraints] for token in tokens(keys) for constraints in given]
    assert ask_all(opa, "one(c) := io.jwt.decode_verify(c[0], c[1])", pairs) == []
    assert ask_all(opa, "one(c) := io.jwt.decode(c[0])", pairs) == []


def test_constraints_hold_alike(opa: Opa) -> None:
    secret = b"s" * 32
    claims: list[dict[str, Any]] = [
        {},
        {"iss": "a"},
        {"aud": "x"},
        {"aud": ["x", "y"]},
        {"aud": []},
        {"aud": 1},
        {"exp": 1000},
        {"exp": 1000.5},
        {"exp": "1000"},
        {"nbf": 1000},
        {"nbf": True},
        {"exp": 2000, "nbf": 500, "iss": "a", "aud": "x"},
    ]
    wanted: list[dict[str, Any]] = [
        {"time": 1000 * 10**9},
        {"time": 999 * 10**9},
        {"time": 1000500000000},
        {"time": -1},
        {"time": "1"},
        {"time": 0, "iss": "a"},
        {"time": 0, "iss": ""},
        {"time": 0, "aud": "x"},
        {"time": 0, "aud": ""},
        {"time": 0, "alg": "HS256"},
        {"time": 0, "alg": "RS256"},
        {"time": 0, "alg": ""},
        {"time": 0, "unknown": ""},
        {"time": 0, "cert": "x"},
    ]
    pairs: list[object] = [
        [jwt.PyJWS().encode(json.dumps(one).encode(), secret, "HS256"), {"secret": "s" * 32, **constraints}]
        for one in claims
        for constraints in wanted
    ]
    assert ask_all(opa, "one(c) := io.jwt.decode_verify(c[0], c[1])", pairs) == []


def test_a_token_that_nobody_signed_is_never_good(keys: dict[str, Key]) -> None:
    builtins = {name: function for name, _, function in Tokens().builtins()}
    for key in keys.values():
        for token in (forged(pem(key)), forged(pem(key), "RS256"), forged(json.dumps(jwk(key)))):
            assert builtins["io.jwt.decode_verify"](token, {"cert": pem(key)})[0] is False
            assert builtins["io.jwt.decode_verify"](token, {"cert": json.dumps(jwk(key))})[0] is False
            assert builtins["io.jwt.verify_rs256"](token, pem(key)) is False
            assert builtins["io.jwt.verify_es256"](token, pem(key)) is False


def test_a_good_token_is_good_by_each_kind_of_key(keys: dict[str, Key]) -> None:
    builtins = {name: function for name, _, function in Tokens().builtins()}
    kinds = {"rsa": "PS256", "p256": "ES256", "p384": "ES384", "p521": "ES512", "ed": "EdDSA"}
    for name, algorithm in kinds.items():
        token, key = signed(keys[name], algorithm), keys[name]
        for text in (pem(key), json.dumps(jwk(key)), json.dumps({"keys": [jwk(one) for one in keys.values()]})):
            assert builtins[f"io.jwt.verify_{algorithm.lower()}"](token, text) is True
            assert builtins["io.jwt.decode_verify"](token, {"cert": text})[0] is True


def test_an_issuer_that_is_no_text_is_an_error() -> None:
    """It makes OPA itself panic."""
    verify = {name: function for name, _, function in Tokens().builtins()}["io.jwt.decode_verify"]
    token = jwt.PyJWS().encode(b'{"iss": 1}', b"s" * 32, "HS256")
    with pytest.raises(TypeError):
        verify(token, {"secret": "s" * 32, "iss": "a"})


def test_the_present_time_counts_where_no_time_is_given() -> None:
    token = jwt.encode({"exp": 1000}, b"s" * 32, algorithm="HS256")
    verify = {name: function for name, _, function in Tokens(lambda: 999 * 10**9).builtins()}["io.jwt.decode_verify"]
    assert verify(token, {"secret": "s" * 32})[0] is True
    verify = {name: function for name, _, function in Tokens(lambda: 1000 * 10**9).builtins()}["io.jwt.decode_verify"]
    assert verify(token, {"secret": "s" * 32})[0] is False


START = datetime(2020, 1, 1, tzinfo=UTC)


def certificate(
    name: str,
    key: Key,
    issuer: tuple[str, Key] | None = None,
    *,
    days: int = 10_000,
    serial: int = 7,
    **extensions: Any,
) -> x509.Certificate:
    issuer_name, issuer_key = issuer or (name, key)
    builder = x509.CertificateBuilder(
        x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, issuer_name), x509.NameAttribute(NameOID.COUNTRY_NAME, "CH")]
        ),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.COUNTRY_NAME, "CH")]),
        key.public_key(),
        serial,
        START,
        START + timedelta(days=days),
    )
    for extension, critical in extensions.get("more", ()):
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key, None if isinstance(issuer_key, ed25519.Ed25519PrivateKey) else SHA256())


def ca(length: int | None = None) -> tuple[x509.ExtensionType, bool]:
    return x509.BasicConstraints(ca=True, path_length=length), True


def names(*dns: str) -> tuple[x509.ExtensionType, bool]:
    others = [x509.UniformResourceIdentifier("spiffe://a/b"), x509.IPAddress(ipaddress.ip_address("10.0.0.1"))]
    return x509.SubjectAlternativeName([*map(x509.DNSName, dns), *others, x509.RFC822Name("a@b.c")]), False


def usage(*oids: x509.ObjectIdentifier) -> tuple[x509.ExtensionType, bool]:
    return x509.ExtendedKeyUsage(oids), False


def written(*certificates: x509.Certificate) -> str:
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in certificates)


def test_certificates_are_read_alike(opa: Opa, keys: dict[str, Key]) -> None:
    sign = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=True,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=True,
        decipher_only=False,
    )
    extensions = [
        ca(0),
        names("a.example", "*.b.example"),
        (sign, True),
        usage(ExtendedKeyUsageOID.CLIENT_AUTH, x509.ObjectIdentifier("1.2.3.4")),
        (x509.SubjectKeyIdentifier(b"abc"), False),
        (x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3.5"), None)]), False),
        (x509.NameConstraints([x509.DNSName(".example")], [x509.IPAddress(ipaddress.ip_network("10.0.0.0/8"))]), True),
        (x509.InhibitAnyPolicy(0), True),
        (x509.PolicyConstraints(2, None), True),
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.6"), b"\x05\x00"), True),
    ]
    texts: list[object] = [written(certificate("x", key, more=extensions)) for key in keys.values()]
    texts += [written(certificate("x", keys["ed"])), encoded(b"no certificate"), ""]
    texts.append(base64.b64encode(certificate("y", keys["p256"]).public_bytes(Encoding.DER)).decode())
    rest = 'object.remove(x, ["PublicKey"]) | some x in crypto.x509.parse_certificates(c)'
    assert ask_all(opa, f"one(c) := [{rest}]", texts) == []


def test_numbers_of_certificates_beyond_64_bits_are_texts(keys: dict[str, Key]) -> None:
    from mixer_py.policy.builtins.certificates import parse

    (read,) = parse(written(certificate("x", keys["rsa"], serial=2**100)))
    assert read["SerialNumber"] == str(2**100)
    assert int(read["PublicKey"]["N"]) == keys["rsa"].public_key().public_numbers().n


def test_chains_hold_alike(opa: Opa, keys: dict[str, Key]) -> None:
    root_key, between_key, leaf_key = keys["p256"], keys["rsa"], keys["ed"]
    root = certificate("root", root_key, more=[ca()])
    between = certificate("between", between_key, ("root", root_key), more=[ca(0)])
    server = certificate(
        "leaf",
        leaf_key,
        ("between", between_key),
        more=[names("a.example", "*.b.example"), usage(ExtendedKeyUsageOID.SERVER_AUTH)],
    )
    client = certificate("leaf", leaf_key, ("between", between_key), more=[usage(ExtendedKeyUsageOID.CLIENT_AUTH)])
    below = certificate("below", leaf_key, ("leaf", leaf_key))
    no_ca = certificate("between", between_key, ("root", root_key))
    expired = certificate("leaf", leaf_key, ("between", between_key), days=10)
    other_root = certificate("root", keys["p384"], more=[ca()])
    chains = [
        written(root, between, server),
        written(root, between, client),
        written(root, server),
        written(root, between, certificate("leaf", leaf_key, ("between", between_key), more=[ca()]), below),
        written(root, no_ca, server),
        written(root, between, expired),
        written(other_root, between, server),
        written(root),
        written(root, root),
        written(root, between),
        "none",
    ]
    documents: list[object] = [
        [chain, options]
        for chain in chains
        for options in (
            {},
            {"DNSName": "a.example"},
            {"DNSName": "x.b.example"},
            {"DNSName": "x.y.b.example"},
            {"DNSName": "10.0.0.1"},
            {"DNSName": "c.example"},
            {"KeyUsages": ["KeyUsageClientAuth"]},
            {"KeyUsages": ["KeyUsageAny"]},
            {"KeyUsages": ["unknown"]},
            {"CurrentTime": 1577900000000000000},
            {"CurrentTime": 0},
            {"CurrentTime": "0"},
            {"unknown": 1},
        )
    ]
    parts = "[x[0], [y.Subject.CommonName | some y in x[1]]]"
    one = f"crypto.x509.parse_and_verify_certificates_with_options(c[0], c[1])\n\tvalue := {parts}"
    assert ask_all(opa, f"one(c) := value if {{\n\tx := {one}\n}}", documents) == []
    one = f"crypto.x509.parse_and_verify_certificates(c[0])\n\tvalue := {parts}"
    assert ask_all(opa, f"one(c) := value if {{\n\tx := {one}\n}}", documents) == []

"""`io.jwt.decode`, `io.jwt.verify_*` and `io.jwt.decode_verify` as OPA 1.22 has them.

What is an error there (a token of another shape, an unreadable key, an unknown constraint) is an exception here; what
is a refusal there (a signature, algorithm, audience or time that does not hold) is false here. The algorithm is never
taken from the token alone: a key verifies only by algorithms of its own kind.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import takewhile
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm

from mixer_py.policy.builtins.documents import parse_json
from mixer_py.policy.builtins.keys import Key, VerificationKey, read_keys
from mixer_py.policy.builtins.operands import decode_base64url, mapping, number, string

_KEYS_KEPT: Final = 100
"""Texts whose keys are remembered, as in OPA."""
_NANOSECONDS: Final = 1_000_000_000
_PARTS: Final = 3
_NESTED: Final = 8
"""Tokens within tokens that are opened."""

HASHES: Final[Mapping[str, HashAlgorithm]] = {"256": SHA256(), "384": SHA384(), "512": SHA512()}
DIGESTS: Final = {"256": "sha256", "384": "sha384", "512": "sha512"}
_CONSTRAINTS: Final = frozenset({"cert", "secret", "alg", "iss", "aud", "time"})
_HEADER_TEXTS: Final = ("alg", "kid", "typ", "cty")

Verify = Callable[[Key, bytes, bytes], bool]
"""Whether a key made a signature of some content."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token in three parts; `signed` is what the signature is over."""

    header: dict[str, Any]
    payload: str
    signature: str
    signed: bytes


class Tokens:
    """The builtins, with a memory of the keys that they have read."""

    def __init__(self, now: Callable[[], int] = time.time_ns) -> None:
        """`now` gives nanoseconds since 1970."""
        self._now = now
        self._keys = lru_cache(maxsize=_KEYS_KEPT)(read_keys)

    def builtins(self) -> tuple[tuple[str, int, Callable[..., object]], ...]:
        """Name, number of arguments, and function of each."""
        signed = (
            (f"io.jwt.verify_{family.lower()}{bits}", 2, partial(self.verify, partial(verifier, bits)))
            for family, verifier in _BY_TYPE.items()
            for bits in HASHES
        )
        return (
            ("io.jwt.decode", 1, decode),
            ("io.jwt.decode_verify", 2, self.decode_verify),
            ("io.jwt.verify_eddsa", 2, partial(self.verify, _verify_eddsa_type)),
            *((f"io.jwt.verify_hs{bits}", 2, partial(_verify_shared, bits)) for bits in HASHES),
            *signed,
        )

    def verify(self, verify: Verify, token: object, keys: object) -> bool:
        """`io.jwt.verify_*(jwt, certificate)`: by the key that the token names, else by any that may have signed."""
        text, readable = split(string(token)), self._keys(string(keys))
        signature = decode_base64url(text[2])
        read = _read(text)
        _check_header(read.header)
        return _holds(readable, read.header, lambda key: verify(key, read.signed, signature))

    def decode_verify(self, token: object, constraints: object) -> list[object]:
        """`io.jwt.decode_verify(jwt, constraints)`: whether everything holds, and then header and payload."""
        wanted = self._constraints(mapping(constraints))
        refused: list[object] = [False, {}, {}]
        text = string(token)
        for _ in range(_NESTED):
            read = _read(split(text))
            header = read.header
            _check_header(header)
            algorithm = header.get("alg", "")
            if not _is_acceptable(header) or wanted.get("alg") not in (None, "", algorithm):
                return refused
            signature = decode_base64url(read.signature)
            verify = partial(_verify_by_name, algorithm)
            if not _holds(wanted["keys"], header, lambda key: verify(key, read.signed, signature)):  # noqa: B023
                return refused
            content = decode_base64url(read.payload)
            if header.get("cty", "").lower() != "jwt":
                payload = _object(content)
                return [True, header, payload] if _claims_hold(payload, wanted) else refused
            text = content.decode(errors="replace")
        raise ValueError("too many tokens within tokens")

    def _constraints(self, given: Mapping[object, object]) -> dict[str, Any]:
        """The constraints, with `keys` for `cert` or `secret`, and the time in nanoseconds.

        Raises:
            ValueError: one is unknown, or there is not exactly one of keys and secret.
        """
        if not given.keys() <= _CONSTRAINTS:
            raise ValueError("an unknown constraint")
        wanted: dict[str, Any] = {
            name: string(given[name]) for name in ("alg", "iss", "aud", "secret") if name in given
        }
        moment = float(number(given["time"] if "time" in given else self._now()))
        if moment < 0:
            raise ValueError("the time must not be negative")
        wanted["time"] = moment
        secret = wanted.pop("secret", "")
        if ("cert" in given) == bool(secret):
            raise ValueError("either a certificate or a secret")
        wanted["keys"] = (
            self._keys(string(given["cert"])) if "cert" in given else (VerificationKey("", "", secret.encode()),)
        )
        return wanted


def split(token: str) -> tuple[str, str, str]:
    """A token's header, payload and signature, still encoded.

    Raises:
        ValueError: it has not three parts.
    """
    parts = token.split(".")
    if len(parts) != _PARTS:
        raise ValueError("a token has three parts")
    return parts[0], parts[1], parts[2]


def decode(token: object) -> list[object]:
    """`io.jwt.decode(jwt)`: header, payload, and signature in hexadecimal digits; a token in a token is opened."""
    text = string(token)
    for _ in range(_NESTED):
        read = _read(split(text))
        content = decode_base64url(read.payload)
        if "cty" not in read.header or string(read.header["cty"]) != "JWT":
            return [read.header, _object(content), decode_base64url(read.signature).hex()]
        text = content.decode(errors="replace").strip("\"'")
    raise ValueError("too many tokens within tokens")


def _read(parts: tuple[str, str, str]) -> Token:
    header = _object(decode_base64url(parts[0]))
    if "enc" in header:
        raise ValueError("the token is encrypted")
    return Token(header, parts[1], parts[2], f"{parts[0]}.{parts[1]}".encode())


def _object(content: bytes) -> dict[str, Any]:
    value = parse_json(content)
    if not isinstance(value, dict):
        raise TypeError("must be an object")
    return value


def _check_header(header: Mapping[str, Any]) -> None:
    """An error when a member has another type than the standard says."""
    for name in _HEADER_TEXTS:
        if name in header:
            string(header[name])
    if "crit" in header and not _critical(header["crit"]):
        raise ValueError("crit is a list of texts")


def _critical(names: object) -> set[str]:
    """Names that must be understood, up to one that is no text."""
    if not isinstance(names, list):
        raise TypeError("crit is a list")
    return set(takewhile(lambda name: isinstance(name, str), names))


def _is_acceptable(header: Mapping[str, Any]) -> bool:
    """Whether it names an algorithm, and nothing that must be understood and is not."""
    unknown = header.keys() - {*_HEADER_TEXTS, "crit"}
    return bool(header.get("alg")) and not unknown & _critical(header.get("crit", []))


def _holds(keys: tuple[VerificationKey, ...], header: Mapping[str, Any], verify: Callable[[Key], bool]) -> bool:
    identifier, algorithm = header.get("kid", ""), header.get("alg", "")
    if identifier:
        for one in keys:
            if one.identifier == identifier:
                return verify(one.key)
    return any(one.algorithm in ("", algorithm) and verify(one.key) for one in keys)


def _claims_hold(payload: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    issuer, audience = wanted.get("iss", ""), wanted.get("aud", "")
    seconds = wanted["time"] / _NANOSECONDS
    if issuer and ("iss" not in payload or string(payload["iss"]) != issuer):
        return False
    if "aud" in payload:
        given = payload["aud"]
        if given != audience and not (isinstance(given, list) and audience in given):
            return False
    elif audience:
        return False
    if "exp" in payload and seconds >= number(payload["exp"]):
        return False
    return not ("nbf" in payload and seconds < number(payload["nbf"]))


def _verify_shared(bits: str, token: object, secret: object) -> bool:
    parts, key = split(string(token)), string(secret).encode()
    return _verify_hs(bits, key, f"{parts[0]}.{parts[1]}".encode(), decode_base64url(parts[2]))


def _verify_hs(bits: str, key: Key, content: bytes, signature: bytes) -> bool:
    return isinstance(key, bytes) and hmac.compare_digest(hmac.digest(key, content, DIGESTS[bits]), signature)


def _verify_rs(bits: str, key: Key, content: bytes, signature: bytes) -> bool:
    return isinstance(key, rsa.RSAPublicKey) and _passes(
        key.verify, signature, content, padding.PKCS1v15(), HASHES[bits]
    )


def _verify_ps(bits: str, key: Key, content: bytes, signature: bytes) -> bool:
    scheme = padding.PSS(padding.MGF1(HASHES[bits]), padding.PSS.AUTO)
    return isinstance(key, rsa.RSAPublicKey) and _passes(key.verify, signature, content, scheme, HASHES[bits])


def _verify_es(bits: str, key: Key, content: bytes, signature: bytes) -> bool:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    half = len(signature) // 2
    pair = encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))
    return _passes(key.verify, pair, content, ec.ECDSA(HASHES[bits]))


def _verify_eddsa_type(key: Key, content: bytes, signature: bytes) -> bool:
    return isinstance(key, ed25519.Ed25519PublicKey) and _passes(key.verify, signature, content)


_BY_TYPE: Final[Mapping[str, Callable[[str, Key, bytes, bytes], bool]]] = {
    "RS": _verify_rs,
    "PS": _verify_ps,
    "ES": _verify_es,
}


def _verify_by_name(algorithm: str, key: Key, content: bytes, signature: bytes) -> bool:
    """Whether a signature holds by the algorithm that a token names, where the key is one of that algorithm's."""
    if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        key = key.public_key()
    family, bits = algorithm[:2], algorithm[2:]
    if algorithm in {"EdDSA", "Ed25519"}:
        return _verify_eddsa_type(key, content, signature)
    if bits not in HASHES:
        return False
    if family == "HS":
        return _verify_hs(bits, key, content, signature)
    if family == "ES" and not (
        isinstance(key, ec.EllipticCurvePublicKey) and len(signature) == (key.curve.key_size + 7) // 8 * 2
    ):
        return False
    return family in _BY_TYPE and _BY_TYPE[family](bits, key, content, signature)


def _passes(verify: Callable[..., None], *arguments: object) -> bool:
    try:
        verify(*arguments)
    except (InvalidSignature, ValueError):  # the other is a digest too large for the key
        return False
    return True

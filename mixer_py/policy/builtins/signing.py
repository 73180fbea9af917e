"""`io.jwt.encode_sign` and `io.jwt.encode_sign_raw` as OPA 1.22 has them: the first key of a JWK or set signs."""

from __future__ import annotations

import base64
import hmac

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from mixer_py.policy.builtins.documents import is_valid_json, parse_json, write_json
from mixer_py.policy.builtins.keys import ALGORITHMS, Key, jwk_entries, read_jwk
from mixer_py.policy.builtins.operands import string
from mixer_py.policy.builtins.tokens import DIGESTS, HASHES


def encode_sign(headers: object, payload: object, key: object) -> str:
    """`io.jwt.encode_sign(headers, payload, key)`, all of them objects."""
    return _sign_token(write_json(headers), write_json(payload), write_json(key))


def encode_sign_raw(headers: object, payload: object, key: object) -> str:
    """`io.jwt.encode_sign_raw(headers, payload, key)`, all of them texts."""
    return _sign_token(string(headers), string(payload), string(key))


def _sign_token(headers: str, payload: str, key: str) -> str:
    keys = jwk_entries(key)
    if not keys:
        raise ValueError("the set has no keys")
    header = parse_json(headers.encode())
    algorithm = string(header["alg"])
    if algorithm not in ALGORITHMS:
        raise ValueError("an unknown algorithm")
    kind = header.get("typ")
    if (not isinstance(kind, str) or kind == "JWT") and not is_valid_json(payload):
        raise ValueError("the payload is no JSON")
    content = f"{_encode(headers.encode())}.{_encode(payload.encode())}"
    return f"{content}.{_encode(_sign(read_jwk(keys[0]), algorithm, content.encode()))}"


def _sign(key: Key, algorithm: str, content: bytes) -> bytes:
    """A signature.

    Raises:
        TypeError: the key is not one of the algorithm's.
    """
    family, bits = algorithm[:2], algorithm[2:]
    match family, key:
        case "HS", bytes():
            return hmac.digest(key, content, DIGESTS[bits])
        case "RS", rsa.RSAPrivateKey():
            return key.sign(content, padding.PKCS1v15(), HASHES[bits])
        case "PS", rsa.RSAPrivateKey():
            scheme = padding.PSS(padding.MGF1(HASHES[bits]), padding.PSS.MAX_LENGTH)
            return key.sign(content, scheme, HASHES[bits])
        case "ES", ec.EllipticCurvePrivateKey():
            size = (key.curve.key_size + 7) // 8
            pair = decode_dss_signature(key.sign(content, ec.ECDSA(HASHES[bits])))
            return b"".join(number.to_bytes(size) for number in pair)
        case "Ed", ed25519.Ed25519PrivateKey():
            return key.sign(content)
    raise TypeError("the key is not one of the algorithm's")


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

"""Verify a bundle's `.signatures.json`: one JSON Web Token over the hashes of its files, as `opa sign` makes it.

Source of the rules: OPA v1.22 bundle/verify.go. Which key verifies is said by the configuration, and the algorithm is
the configured key's, never the token's.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import orjson
from yaml import YAMLError

from mixer_py.errors import Fault, PolicyLoadError
from mixer_py.policy.bundles.canonical import HASHES, digest, exact_json, of_values, quick_json
from mixer_py.policy.bundles.documents import YAML_NAMES, read_yaml

if TYPE_CHECKING:
    from jwt.algorithms import Algorithm

FILE: Final = ".signatures.json"
_JSON_NAMES: Final = frozenset({"data.json", ".manifest"})
_NAME_ONE: Final = "sign it again with `--claims-file`, and the name of one as the claim `keyid`"
_WAY_OUT: Final = "sign it again with `opa sign`, or with `opa build --signing-key`"


@dataclass(frozen=True, slots=True)
class Key:
    """What verifies: a configured key, its secret read.

    Attributes:
        algorithm: as in a token's header.
        key: PEM, or the secret of an HMAC.
        scope: that a signature must have.
    """

    algorithm: str
    key: str
    scope: str


@dataclass(frozen=True, slots=True)
class _Listed:
    """A file as the signature lists it."""

    algorithm: str
    digest: str


class _UnverifiedError(Exception):
    """Why a signature is not good, and the way out."""

    def __init__(self, why: str, way_out: str = _WAY_OUT) -> None:
        super().__init__(why)
        self.way_out = way_out


def verify(files: Mapping[str, bytes], signatures: bytes, keys: Mapping[str, Key], bundle: str) -> dict[str, bytes]:
    """Verify all files of a bundle.

    Args:
        files: every file but `.signatures.json`, by its path without a first `/`.
        signatures: the content of `.signatures.json`.
        keys: the configured keys by name.
        bundle: the name that people know.

    Returns:
        The files to use: where a structured file was rewritten in the form that was signed, that form.

    Raises:
        PolicyLoadError: the signature, a file's hash, or the list of files is wrong.
    """
    try:
        listed = _listed(signatures, keys)
        prefix = _common_folder(listed, bundle)
        listed = {name.removeprefix(prefix): entry for name, entry in listed.items()}
        _compare_names(files, listed)
        return {name: _verified(name, content, listed[name]) for name, content in files.items()}
    except _UnverifiedError as error:
        message = f"the signature of the bundle does not hold: {error}"
        raise PolicyLoadError([Fault(message, bundle, way_out=error.way_out)]) from None


def _compare_names(files: Iterable[str], listed: Mapping[str, _Listed]) -> None:
    there = set(files)
    for name in sorted(there - listed.keys()):
        raise _UnverifiedError(f"{name} is not signed")
    for name in sorted(listed.keys() - there):
        raise _UnverifiedError(f"{name} is signed, and is not there")


def _listed(signatures: bytes, keys: Mapping[str, Key]) -> dict[str, _Listed]:
    document = _json(signatures, FILE)
    if document.get("plugin") not in {None, "", "_default"}:
        raise _UnverifiedError(f"it is made by the plugin {document['plugin']!r}")
    tokens = document.get("signatures")
    if not isinstance(tokens, list) or len(tokens) != 1 or not isinstance(tokens[0], str):
        raise _UnverifiedError(f"{FILE} does not hold exactly one token")
    claims = _claims(tokens[0], keys)
    files = claims.get("files")
    if not isinstance(files, list):
        raise _UnverifiedError("it lists no files")
    listed: dict[str, _Listed] = {}
    for file in files:
        name, entry = _entry(file)
        if name in listed:
            raise _UnverifiedError(f"it lists {name} twice")
        listed[name] = entry
    return listed


def _entry(file: object) -> tuple[str, _Listed]:
    values = [file.get(name) for name in ("name", "hash", "algorithm")] if isinstance(file, dict) else []
    name, hashed, algorithm = (value if isinstance(value, str) else "" for value in values or ("", "", ""))
    if not name or algorithm not in HASHES:
        raise _UnverifiedError(f"it gives no hash that is known for {name or 'a file'}")
    return name.removeprefix("/"), _Listed(algorithm, hashed.lower())


def _claims(token: str, keys: Mapping[str, Key]) -> dict[str, Any]:
    """The claims of a token whose signature and scope are good."""
    parts = token.split(".")
    if len(parts) != 3:
        raise _UnverifiedError("it is no JSON Web Token")
    header, claims = _json(_decode(parts[0]), "its header"), _json(_decode(parts[1]), "its payload")
    key = _key(header.get("kid") or claims.get("keyid"), keys)
    algorithm = _algorithm(key)
    try:
        prepared: Any = algorithm.prepare_key(_public_pem(key))
        good = algorithm.verify(f"{parts[0]}.{parts[1]}".encode(), prepared, _decode(parts[2]))
    except _UnverifiedError:
        raise
    except Exception as error:  # noqa: BLE001 (a key or signature that the library cannot read, in whatever way)
        raise _UnverifiedError(f"the key cannot verify it: {error}") from None
    if not good:
        raise _UnverifiedError("it was made with another key")
    if (claims.get("scope") or "") != key.scope:
        raise _UnverifiedError(f"its scope is {claims.get('scope') or ''!r}, and not {key.scope!r}")
    return claims


def _key(name: object, keys: Mapping[str, Key]) -> Key:
    """The key that a token names; where it names none, the only one that there is."""
    if not name and len(keys) == 1:
        return next(iter(keys.values()))
    if not isinstance(name, str) or name not in keys:
        known = ", ".join(sorted(keys))
        way_out = f"call the right one {name!r} there; OPA calls it 'default' unless `--claims-file` names another"
        words = f"names the key {name!r}" if name else "names no key"
        raise _UnverifiedError(f"it {words}, and policy.bundle_keys has {known}", way_out if name else _NAME_ONE)
    return keys[name]


def _algorithm(key: Key) -> Algorithm:
    from jwt.algorithms import get_default_algorithms  # noqa: PLC0415 (a library that only signed bundles need)

    return get_default_algorithms()[key.algorithm]


def _public_pem(key: Key) -> str | bytes:
    """The key as the algorithm takes it: of a certificate, its public key."""
    if "-----BEGIN CERTIFICATE-----" not in key.key or key.algorithm.startswith("HS"):
        return key.key
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415 (as above)
    from cryptography.x509 import load_pem_x509_certificate  # noqa: PLC0415 (as above)

    certificate = load_pem_x509_certificate(key.key.encode())
    return certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _decode(part: str) -> bytes:
    try:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        raise _UnverifiedError("it is no JSON Web Token") from None


def _json(content: bytes, what: str) -> dict[str, Any]:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise _UnverifiedError(f"{what} is no JSON: {error.msg}") from None
    if not isinstance(document, dict):
        raise _UnverifiedError(f"{what} is no object")
    return document


def _common_folder(listed: Iterable[str], bundle: str) -> str:
    """The folder before every listed name: `opa sign -b folder` writes the folder as it was named there.

    Only the end of the bundle's own path is such a folder.
    """
    parts = [part for part in PurePosixPath(bundle).parts if part != "/"]
    names = list(listed)
    for count in range(len(parts), 0, -1):
        prefix = "/".join(parts[-count:]) + "/"
        if names and all(name.startswith(prefix) for name in names):
            return prefix
    return ""


def _verified(name: str, content: bytes, listed: _Listed) -> bytes:
    base = name.rpartition("/")[2]
    if base in _JSON_NAMES:
        quick = quick_json(content)
        if quick is not None and _is(listed, quick):
            return quick
        hashed = _form(name, content, exact_json)
    elif base in YAML_NAMES:
        hashed = _form(name, content, lambda octets: of_values(read_yaml(octets)))
    else:
        hashed = content
    if not _is(listed, hashed):
        raise _UnverifiedError(f"{name} is not what was signed")
    return content


def _form(name: str, content: bytes, make: Callable[[bytes], bytes]) -> bytes:
    try:
        return make(content)
    except (ValueError, RecursionError, YAMLError) as error:
        raise _UnverifiedError(f"{name} cannot be read: {error}") from None


def _is(listed: _Listed, content: bytes) -> bool:
    return hmac.compare_digest(digest(listed.algorithm, content), listed.digest)

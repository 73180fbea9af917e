"""`crypto.md5`, `crypto.sha1`, `crypto.sha256` and `crypto.hmac.*`: hexadecimal digits of digests of a text's UTF-8."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from functools import partial
from typing import Final

from mixer_py.policy.builtins.operands import string

_DIGESTS: Final = ("md5", "sha1", "sha256")
_HMACS: Final = ("md5", "sha1", "sha256", "sha512")


def builtins() -> tuple[tuple[str, int, Callable[..., object]], ...]:
    """Name, number of arguments, and function of each."""
    return (
        *((f"crypto.{name}", 1, partial(digest, name)) for name in _DIGESTS),
        *((f"crypto.hmac.{name}", 2, partial(authenticate, name)) for name in _HMACS),
        ("crypto.hmac.equal", 2, are_equal),
    )


def digest(name: str, text: object) -> str:
    """The digest of a text by the function of that name."""
    return hashlib.new(name, string(text).encode(), usedforsecurity=False).hexdigest()


def authenticate(name: str, text: object, key: object) -> str:
    """The HMAC of a text."""
    return hmac.digest(string(key).encode(), string(text).encode(), name).hex()


def are_equal(one: object, other: object) -> bool:
    """`crypto.hmac.equal(mac1, mac2)`, in a time that does not tell where they differ."""
    return hmac.compare_digest(string(one).encode(), string(other).encode())

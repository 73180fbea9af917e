"""A cache key for people: what a decision read of a request, with secrets hashed. Not the key that the cache uses."""

from __future__ import annotations

import hashlib
import re
from typing import Final

import orjson

_SECRET: Final = re.compile(
    r"authorization|cookie|token|secret|passw|credential|session|signature|assertion|jwt$|api[-_]?key|^key$|^code$|^sig$",
    re.IGNORECASE,
)
"""Names of headers, query parameters and fields whose values are secrets."""
_BODIES: Final = frozenset({"body", "rawBody", "raw_body"})
_DIGITS: Final = 12
_PARAMETER: Final = re.compile(r"([?&]|^)([^=&?#]+)=([^&#]*)")


def readable_key(document: object) -> object:
    """The document with every value hashed that a name says is a secret: equal secrets still look equal.

    Args:
        document: JSON values.
    """
    return _hide(document)


def hash_secret(value: object) -> str:
    """What stands for a secret."""
    text = value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]}"


def _hide(value: object) -> object:
    if isinstance(value, dict):
        return {name: _hide_member(name, member) for name, member in value.items()}
    if isinstance(value, list):
        return [_hide(item) for item in value]
    return _hide_parameters(value) if isinstance(value, str) else value


def _hide_member(name: str, value: object) -> object:
    if name in _BODIES and isinstance(value, str):
        return hash_secret(value)
    return _hash_leaves(value) if _SECRET.search(name) else _hide(value)


def _hash_leaves(value: object) -> object:
    """A secret of several parts keeps its shape, so that what is read of it is seen to be there."""
    if isinstance(value, dict):
        return {name: _hash_leaves(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_hash_leaves(item) for item in value]
    return value if value in ("", None) else hash_secret(value)


def _hide_parameters(text: str) -> str:
    """A path or URL with the values of secret query parameters hashed."""
    if "=" not in text:
        return text
    return _PARAMETER.sub(
        lambda match: (
            f"{match[1]}{match[2]}={hash_secret(match[3])}" if match[3] and _SECRET.search(match[2]) else match[0]
        ),
        text,
    )

"""What builtins in Python have in common: checks of their operands, and base64 as Go reads it.

An exception means that the builtin is an error in OPA, which makes the expression undefined.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from typing import Final

_BASE64: Final = re.compile(rb"[A-Za-z0-9+/]*={0,2}")
_URL_TO_STANDARD: Final = bytes.maketrans(b"-_+/", b"+/\0\0")
_REMAINDERS: Final = {0: "", 2: "==", 3: "="}


def string(value: object) -> str:
    """The operand, a string.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, str):
        raise TypeError("must be a string")
    return value


def integer(value: object) -> int:
    """The operand, a number without a fraction.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("must be an integer")
    return value


def number(value: object) -> int | float:
    """The operand, a number.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError("must be a number")
    return value


def mapping(value: object) -> Mapping[object, object]:
    """The operand, an object.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, Mapping):
        raise TypeError("must be an object")
    return value


def decode_base64(text: str) -> bytes:
    """Padded base64. Line breaks are passed over, and bits that no byte takes may be anything, as in Go.

    Raises:
        ValueError: it is none.
    """
    return _decode(text.encode())


def decode_base64url(text: str) -> bytes:
    """Base64 for URLs, padded or not; else as `decode_base64`.

    Raises:
        ValueError: it is none.
    """
    if not text.endswith("="):
        padding = _REMAINDERS.get(len(text.encode()) % 4)
        if padding is None:
            raise ValueError("no base64url")
        text += padding
    return _decode(text.encode().translate(_URL_TO_STANDARD))


def _decode(encoded: bytes) -> bytes:
    encoded = encoded.translate(None, b"\r\n")
    if len(encoded) % 4 or _BASE64.fullmatch(encoded) is None:
        raise ValueError("no base64")
    return binascii.a2b_base64(encoded)

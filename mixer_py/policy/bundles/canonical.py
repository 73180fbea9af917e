"""The form in which OPA hashes a bundle's files for its signature: structured files without what has no meaning.

Source of the rule: OPA v1.22 bundle/hash.go and Go's encoding/json. Objects are ordered by key, blanks are left out,
strings are escaped as Go does without HTML escaping, and a JSON number is the text that stands in the file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

import orjson

from mixer_py.policy.bundles.documents import parse_json

HASHES: Final = {
    "MD5": "md5", "SHA-1": "sha1", "SHA-224": "sha224", "SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512",
    "SHA-512-224": "sha512_224", "SHA-512-256": "sha512_256",
}  # fmt: skip
"""OPA's names of hash algorithms, and the machine's."""

_ESCAPED: Final = re.compile('["\\\\\x00-\x1f\u2028\u2029\ud800-\udfff]')
_SHORT: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
_UINT64_MAX: Final = (1 << 64) - 1


class _Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


def digest(algorithm: str, content: bytes) -> str:
    """The hash of a file's octets, in lower-case hexadecimal; `algorithm` is one of `HASHES`."""
    return hashlib.new(HASHES[algorithm], content, usedforsecurity=False).hexdigest()


def quick_json(content: bytes) -> bytes | None:
    """The canonical form of JSON, when its numbers are written in the shortest way, as programs write them.

    Quick because it rewrites other numbers. When its hash is the signed one, it is what was signed, and is what has
    to be used in place of `content`; else `exact_json` has to tell. None when this is no JSON that can be read so.
    """
    try:
        text = orjson.dumps(parse_json(content), option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    return text.replace("\u2028".encode(), b"\\u2028").replace("\u2029".encode(), b"\\u2029")


def exact_json(content: bytes) -> bytes:
    """The canonical form of JSON, its numbers as they were written.

    Raises:
        ValueError: it is no JSON.
    """
    value = json.loads(content, parse_int=_Number, parse_float=_Number, parse_constant=_refuse_constant)
    return "".join(_pieces(value)).encode()


def of_values(value: object) -> bytes:
    """The canonical form of what YAML gave: numbers as Go writes them."""
    return "".join(_pieces(value)).encode()


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _pieces(value: Any) -> Iterator[str]:  # noqa: ANN401 (JSON)
    if isinstance(value, _Number):
        yield value
    elif isinstance(value, str):
        yield _quoted(value)
    elif isinstance(value, dict):
        yield "{"
        for index, key in enumerate(sorted(value)):
            yield f"{',' * bool(index)}{_quoted(key)}:"
            yield from _pieces(value[key])
        yield "}"
    elif isinstance(value, list):
        yield "["
        for index, item in enumerate(value):
            yield "," * bool(index)
            yield from _pieces(item)
        yield "]"
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _UINT64_MAX:
        yield str(value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield _go_float(float(value))
    else:
        yield "null" if value is None else str(value).lower()


def _quoted(text: str) -> str:
    return f'"{_ESCAPED.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if "\ud800" <= character <= "\udfff":  # half a pair: Go writes the replacement character
        return "\ufffd"
    return _SHORT.get(character) or f"\\u{ord(character):04x}"


def _go_float(number: float) -> str:
    """As Go's encoding/json writes a float64: shortest digits, an exponent below 1e-6 and from 1e21 on."""
    if number == 0 or 1e-6 <= abs(number) < 1e21:
        text = format(Decimal(repr(number)), "f")
        return text.removesuffix(".0")
    digits, _, exponent = repr(number).partition("e")
    return f"{digits.removesuffix('.0')}e{exponent[0]}{exponent[1:].lstrip('0')}"

"""The text of an expression as tokens. Source: the lexical part of CEL's definition (cel-spec doc/langdef.md)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from mixer_py.expressions.faults import MistakeError

Kind = Literal["name", "string", "number", "sign", "end"]

RESERVED: Final = frozenset((
    "as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop",
    "package", "namespace", "null", "return", "true", "var", "void", "while",
))  # fmt: skip
"""Words that are no names; all but `in`, `true`, `false` and `null` may be fields."""

_TOKEN: Final = re.compile(
    r"""
    (?P<blank>(?:[\t\n\f\r ]|//[^\n]*)+)
    | (?P<string>[rRbB]{0,2}(?:\"\"\"|'''|"|'))
    | (?P<number>0[xX][0-9a-fA-F]+[uU]?|(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[uU]?)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<sign>&&|\|\||==|!=|<=|>=|[-+*/%!<>?:.,()\[\]{}])
    """,
    re.VERBOSE,
)
_ENDS: Final = {
    '"': re.compile(r'(?:[^"\\\n\r]|\\.)*+"'),
    "'": re.compile(r"(?:[^'\\\n\r]|\\.)*+'"),
    '"""': re.compile(r'(?:[^"\\]|\\.|"(?!""))*+"""', re.DOTALL),
    "'''": re.compile(r"(?:[^'\\]|\\.|'(?!''))*+'''", re.DOTALL),
}
_RAW_ENDS: Final = {
    '"': re.compile(r'[^"\n\r]*+"'),
    "'": re.compile(r"[^'\n\r]*+'"),
    '"""': re.compile(r'(?:[^"]|"(?!""))*+"""'),
    "'''": re.compile(r"(?:[^']|'(?!''))*+'''"),
}
_ESCAPE: Final = re.compile(
    r"\\(?:(?P<plain>[abfnrtv\\?\"'`])|(?P<octal>[0-3][0-7]{2})|x(?P<x>[0-9a-fA-F]{2})|X(?P<X>[0-9a-fA-F]{2})"
    r"|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})|(?P<wrong>))"
)
_PLAIN: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_INT_BITS: Final = 63


@dataclass(frozen=True, slots=True)
class Token:
    """One token.

    Attributes:
        at: offset in the text.
        kind: of the token.
        text: as it was written.
        value: of a string its content; of a number the number, whose sign is a token of its own.
    """

    at: int
    kind: Kind
    text: str
    value: str | int | float = ""


def tokens(text: str) -> Iterator[Token]:
    """Every token in order, then one of kind `end`.

    Raises:
        MistakeError: at the first character that begins no token.
    """
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise MistakeError(position, f"{text[position]!r} is no sign of an expression", _way_out(text, position))
        written = match[0]
        if match["string"] is not None:
            token = _string(text, position, written)
            yield token
            position += len(token.text)
            continue
        if match["number"] is not None:
            yield Token(position, "number", written, _number(position, written))
        elif match["name"] is not None:
            yield Token(position, "name", written)
        elif match["sign"] is not None:
            yield Token(position, "sign", written)
        position = match.end()
    yield Token(len(text), "end", "")


def _way_out(text: str, position: int) -> str:
    ways = {"=": "equality is ==", "&": "and is &&", "|": "or is ||"}
    return ways.get(text[position], "")


def _number(at: int, written: str) -> int | float:
    if written[-1] in "uU":
        raise MistakeError(at, "unsigned numbers are not supported", f"write {written[:-1]}")
    if written[:2] in {"0x", "0X"}:
        value: int | float = int(written, 16) if len(written) <= 18 else 1 << 64
    elif written.isdigit():
        value = int(written) if len(written.lstrip("0")) <= 19 else 1 << 64
    else:
        value = float(written)
        if math.isinf(value):
            raise MistakeError(at, f"{written[:40]} does not fit into a double")
    if isinstance(value, int) and value > 1 << _INT_BITS:  # 2^63 itself is a number when a minus stands before it
        raise MistakeError(at, f"{written[:40]} does not fit into 64 bits", "write it with a point to have a double")
    return value


def _string(text: str, at: int, opening: str) -> Token:
    prefix = opening.rstrip("\"'")
    quote = opening[len(prefix) :]
    if "b" in prefix.lower():
        raise MistakeError(at, "bytes are not supported", "write a string, without the b")
    if len(prefix) > 1:
        raise MistakeError(at, f"{prefix} is no prefix of a string")
    start = at + len(opening)
    end = (_RAW_ENDS if prefix else _ENDS)[quote].match(text, start)
    if end is None:
        raise MistakeError(at, f"this string is not closed with {quote}")
    inner = text[start : end.end() - len(quote)]
    value = inner if prefix else _ESCAPE.sub(lambda match: _unescape(start, match), inner)
    return Token(at, "string", text[at : end.end()], value)


def _unescape(start: int, match: re.Match[str]) -> str:
    plain = match["plain"]
    if plain is not None:
        return _PLAIN.get(plain, plain)
    at = start + match.start()
    if match["wrong"] is not None:
        raise MistakeError(at, "no escape begins so", r"a backslash itself is \\, or write r\"…\" without escapes")
    digits = match["x"] or match["X"] or match["u"] or match["U"]
    code = int(digits, 16) if digits else int(match["octal"], 8)
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise MistakeError(at, f"{match[0]} is no character of Unicode")
    return chr(code)

"""The request's path and query as opa-envoy-plugin splits them. Never a URL parser: `//admin` has no authority.

Rules: percent-decode the part before the first `?`, trim all leading slashes, split at slashes
(opa-envoy-plugin after its advisory of February 2026); the query by Go's `url.ParseQuery`.
"""

from __future__ import annotations

import re

from mixer_py.errors import RequestParseError

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+")


_NO_TEXT = re.compile(r"[\udc80-\udcff]")


def decode_text(octets: bytes) -> str:
    """Octets as text as Go reads them: each one that is no UTF-8 becomes one U+FFFD."""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return _NO_TEXT.sub("\ufffd", octets.decode("utf-8", "surrogateescape"))


def _decode_run(match: re.Match[str]) -> str:
    return decode_text(bytes.fromhex(match[0].replace("%", "")))


def unescape(text: str, what: str) -> str:
    """`text` with its percent escapes decoded; see `decode_text`.

    Raises:
        RequestParseError: a percent sign that is not followed by two hexadecimal digits.
    """
    if "%" not in text:
        return text
    bad = _BAD_ESCAPE.search(text)
    if bad is not None:
        raise RequestParseError(f"{what}: invalid URL escape {text[bad.start() : bad.start() + 3]!r}")
    return _ESCAPES.sub(_decode_run, text)


def split_path(raw_path: str) -> list[str]:
    """Segments of a path without its query, decoded first, so that an encoded slash separates too.

    Raises:
        RequestParseError: a bad percent escape.
    """
    return unescape(raw_path, "path").lstrip("/").split("/")


def parse_query(raw_query: str, what: str = "query") -> dict[str, list[str]]:
    """Values by name, in order, from a query or a form body (Go's `url.ParseQuery`).

    Raises:
        RequestParseError: a semicolon or a bad percent escape.
    """
    values: dict[str, list[str]] = {}
    if not raw_query:
        return values
    for pair in raw_query.split("&"):
        if ";" in pair:
            raise RequestParseError(f"{what}: invalid semicolon separator")
        if not pair:
            continue
        name, _, value = pair.partition("=")
        name = unescape(name.replace("+", " "), what)
        value = unescape(value.replace("+", " "), what)
        values.setdefault(name, []).append(value)
    return values

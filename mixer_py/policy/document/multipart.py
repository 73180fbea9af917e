"""Multipart form bodies, as Go's `mime/multipart` reads them, which is what opa-envoy-plugin's input holds.

Stricter in one thing: a parameter in RFC 2231's form (`name*=`) is refused, so that nothing is read in two ways.
"""

from __future__ import annotations

import quopri
import re
from dataclasses import dataclass

from mixer_py.errors import RequestParseError
from mixer_py.policy.document.path import decode_text

_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_MEDIA_TYPE = re.compile(rf"[ \t]*{_NAME}(?:/{_NAME})?[ \t]*(?=;|$)")
_PARAMETER = re.compile(rf'[ \t]*;[ \t]*({_NAME})[ \t]*=[ \t]*(?:({_NAME})|"((?:[^"\\\r\n]|\\[^\r\n])*)")')
_ESCAPED = re.compile(r'\\([()<>@,;:\\"/\[\]?=])')
_AFTER_BOUNDARY = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a form: its field's name (empty when it has none), content type and content."""

    name: str
    content_type: str
    content: bytes

    def text(self) -> str:
        """The content as text; see `decode_text`."""
        return decode_text(self.content)


def media_type_parameters(value: str) -> dict[str, str]:
    """Parameters of a header such as `multipart/form-data; boundary=x`, names in lower case.

    Raises:
        RequestParseError: the type or a parameter is malformed, or a parameter comes twice or has RFC 2231's form.
    """
    if _MEDIA_TYPE.match(value) is None:
        raise RequestParseError(f"body: malformed media type {value[:80]!r}")
    parameters: dict[str, str] = {}
    position = value.find(";")
    while 0 <= position < len(value):
        match = _PARAMETER.match(value, position)
        if match is None:
            if value[position:].strip(" \t") in {"", ";"}:
                break
            raise RequestParseError(f"body: invalid media parameter in {value[:80]!r}")
        name = match[1].lower()
        if name in parameters or "*" in name:
            raise RequestParseError(f"body: media parameter {name!r} in {value[:80]!r} is not accepted")
        parameters[name] = match[2] if match[2] is not None else _ESCAPED.sub(r"\1", match[3])
        position = match.end()
    return parameters


def parse_parts(payload: bytes, boundary: str) -> list[Part]:
    """The parts of a multipart body in order.

    Raises:
        RequestParseError: no boundary, a part that never ends, or a malformed part header.
    """
    if not boundary:
        raise RequestParseError("body: the multipart boundary is empty")
    delimiter = b"--" + boundary.encode()
    position, newline = _first_delimiter(payload, delimiter)
    parts: list[Part] = []
    while position >= 0:
        headers, start = _read_headers(payload, position)
        end = _find_end(payload, start, delimiter, newline)
        parts.append(_make_part(headers, payload[start : max(start, end - len(newline))]))
        position = _after_delimiter(payload, end, delimiter, newline)
    return parts


def _line(payload: bytes, position: int) -> bytes:
    end = payload.find(b"\n", position)
    return payload[position:] if end < 0 else payload[position : end + 1]


def _is_final(line: bytes, delimiter: bytes, newline: bytes) -> bool:
    return line.startswith(delimiter + b"--") and line[len(delimiter) + 2 :].lstrip(b" \t") in {b"", newline}


def _first_delimiter(payload: bytes, delimiter: bytes) -> tuple[int, bytes]:
    """Position after the first delimiter line (-1 when the first one is the final one), and the newline it uses."""
    position = 0
    while position < len(payload):
        line = _line(payload, position)
        if _is_final(line, delimiter, b"\r\n"):
            return -1, b"\r\n"
        position += len(line)
        if line.startswith(delimiter):
            rest = line[len(delimiter) :].lstrip(b" \t")
            if rest in {b"\r\n", b"\n"}:
                return position, rest
    raise RequestParseError("body: no multipart boundary found")


def _read_headers(payload: bytes, position: int) -> tuple[dict[str, str], int]:
    """A part's headers, names in lower case and the first of each kept, and where its content starts."""
    headers: dict[str, str] = {}
    last = ""
    while True:
        line = _line(payload, position)
        position += len(line)
        if not line.endswith(b"\n"):
            raise RequestParseError("body: a multipart part ends within its headers")
        text = line.rstrip(b"\r\n").decode("utf-8", "replace")
        if not text:
            return headers, position
        if text[0] in " \t" and last:
            headers[last] += " " + text.strip(" \t")
            continue
        name, colon, value = text.partition(":")
        if not colon or re.fullmatch(_NAME, name) is None:
            raise RequestParseError(f"body: malformed multipart header {text[:80]!r}")
        last = name.lower()
        if last in headers:
            raise RequestParseError(f"body: multipart header {name[:80]!r} comes twice")
        headers[last] = value.strip(" \t")


def _find_end(payload: bytes, start: int, delimiter: bytes, newline: bytes) -> int:
    """Where the delimiter after a part's content starts."""
    position = start
    if not payload.startswith(delimiter, start):
        position = payload.find(newline + delimiter, start) + len(newline)
    while position >= max(start, len(newline)) or position == start:
        after = payload[position + len(delimiter) : position + len(delimiter) + 2]
        if not after or after[:1] in _AFTER_BOUNDARY or after == b"--":
            return position
        found = payload.find(newline + delimiter, position)
        if found < 0:
            break
        position = found + len(newline)
    raise RequestParseError("body: a multipart part has no end")


def _after_delimiter(payload: bytes, position: int, delimiter: bytes, newline: bytes) -> int:
    """Position after a delimiter line; -1 when it was the final one."""
    line = _line(payload, position)
    if _is_final(line, delimiter, newline):
        return -1
    if line[len(delimiter) :].lstrip(b" \t") != newline:
        raise RequestParseError("body: malformed multipart boundary line")
    return position + len(line)


def _make_part(headers: dict[str, str], content: bytes) -> Part:
    disposition = headers.get("content-disposition", "")
    name = ""
    if disposition.partition(";")[0].strip(" \t").lower() == "form-data":
        name = media_type_parameters(disposition).get("name", "")
    if headers.get("content-transfer-encoding", "").lower() == "quoted-printable":
        content = quopri.decodestring(content)
    return Part(name, headers.get("content-type", ""), content)

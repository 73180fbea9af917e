"""`parsed_body` and `truncated_body` of the input document, by opa-envoy-plugin's order of cases."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import orjson

from mixer_py.errors import RequestParseError
from mixer_py.policy.document.grpc_body import GrpcBodies
from mixer_py.policy.document.multipart import media_type_parameters, parse_parts
from mixer_py.policy.document.path import decode_text, parse_query, split_path

MAX_DEPTH: Final = 120
"""Arrays and objects within one another in a body. The embedded engine reads no more than 127 in the whole document; a
body beyond it is refused here, so that it is refused whether or not the policy reads it."""

_GRPC: Final = "application/grpc"
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_INTEGER = re.compile(r"[+-]?[0-9]+")


def _is_truncated(headers: Any, length: int) -> bool:  # noqa: ANN401 (a protobuf map<string, string>)
    """Whether `content-length` promises more than `length` bytes; -1 promises nothing."""
    text = headers.get("content-length")
    if text is None:
        return False
    if _INTEGER.fullmatch(text) is None or not -(2**63) <= int(text) < 2**63:
        raise RequestParseError(f"body: content-length {text[:40]!r} is not a number")
    return int(text) > length


def parse_json(text: bytes) -> orjson.Fragment:
    """JSON text, checked, as a fragment of the input document, so that its numbers keep their digits.

    As in Go, octets that are no UTF-8 and halves of surrogate pairs become U+FFFD.

    Raises:
        RequestParseError: it is not one JSON value, is nested more than `MAX_DEPTH` deep, or holds a number beyond what
            a double can.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        text = _ESCAPE.sub(_whole_escape, decode_text(text)).encode()
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            raise RequestParseError(f"body: invalid JSON: {error}") from None
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        raise RequestParseError(f"body: JSON is nested more than {MAX_DEPTH} deep")
    return orjson.Fragment(text)


def _whole_escape(match: re.Match[str]) -> str:
    """An escape as it is; half of a surrogate pair as U+FFFD."""
    return "\\ufffd" if match["half"] else match[0]


def _is_deeper(value: object, depth: int) -> bool:
    """Whether arrays and objects are nested more than `depth` deep."""
    level = [value]
    for _ in range(depth + 1):
        inner = [one for one in level if isinstance(one, (list, dict))]
        if not inner:
            return False
        level = [member for one in inner for member in (one.values() if isinstance(one, dict) else one)]
    return True


def _parse_multipart(payload: bytes, content_type: str) -> dict[str, list[object]] | None:
    boundary = media_type_parameters(content_type).get("boundary")
    if boundary is None:
        return None
    values: dict[str, list[object]] = {}
    for part in parse_parts(payload, boundary):
        if part.name:
            value = parse_json(part.content) if "application/json" in part.content_type else part.text()
            values.setdefault(part.name, []).append(value)
    return values


class BodyParser:
    """Parses bodies. Thread-safe, holds no request."""

    __slots__ = ("_grpc",)

    def __init__(self, grpc: GrpcBodies | None = None) -> None:
        """Takes what reads gRPC bodies; without it they are not parsed, as in opa-envoy-plugin without a descriptor."""
        self._grpc = grpc

    def parse(self, http: Any) -> tuple[object, bool]:  # noqa: ANN401 (AttributeContext.HttpRequest, a generated class)
        """`(parsed_body, truncated_body)` of `attributes.request.http`.

        Headers that come as `header_map` (Envoy's encode_raw_headers) are not looked at, as in opa-envoy-plugin.

        Raises:
            RequestParseError: a body that its content type says can be parsed, and cannot.
        """
        headers = http.headers
        if headers.get("x-envoy-auth-partial-body") == "true":
            return None, True
        content_type: str = headers.get("content-type", "")
        kind = next((name for name in _KINDS if name in content_type), None)
        if kind is None:
            return None, False
        if kind == _GRPC:
            return (None, False) if self._grpc is None else self._parse_grpc(self._grpc, http)
        payload: bytes = http.body.encode() or http.raw_body
        if not payload:
            return None, False
        if _is_truncated(headers, len(payload)):
            return None, True
        return _PARSERS[kind](payload, content_type), False

    def _parse_grpc(self, grpc: GrpcBodies, http: Any) -> tuple[object, bool]:  # noqa: ANN401 (see parse)
        raw_body: bytes = http.raw_body
        if not raw_body:  # Envoy's pack_as_bytes is off
            return None, False
        body, truncated = grpc.parse(split_path(http.path.partition("?")[0]), raw_body)
        if _is_deeper(body, MAX_DEPTH):
            raise RequestParseError(f"body: the gRPC message is nested more than {MAX_DEPTH} deep")
        return body, truncated


_PARSERS: Final[dict[str, Callable[[bytes, str], object]]] = {
    "application/json": lambda payload, _content_type: parse_json(payload),
    "application/x-www-form-urlencoded": lambda payload, _content_type: parse_query(decode_text(payload), "form body"),
    "multipart/form-data": _parse_multipart,
}
# In opa-envoy-plugin's order: a content type that contains two of these names is the first of them.
_KINDS: Final = ("application/json", _GRPC, "application/x-www-form-urlencoded", "multipart/form-data")

"""`parsed_body` and `truncated_body` of the input document, by opa-envoy-plugin's order of cases.

gRPC bodies are not parsed: without a descriptor set they are `null`, as they are there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import orjson

from mixer_py.errors import RequestParseError
from mixer_py.policy.document.multipart import media_type_parameters, parse_parts
from mixer_py.policy.document.path import parse_query

MAX_DEPTH: Final = 120
"""Arrays and objects within one another in a body. The embedded engine reads no more than 127 in the whole document; a
body beyond it is refused here, so that it is refused whether or not the policy reads it."""

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

    Raises:
        RequestParseError: it is not one JSON value, or is nested more than `MAX_DEPTH` deep.
    """
    if text.startswith(b"\xef\xbb\xbf"):
        text = text[3:]
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RequestParseError(f"body: invalid JSON: {error}") from None
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        raise RequestParseError(f"body: JSON is nested more than {MAX_DEPTH} deep")
    return orjson.Fragment(text)


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


def parse_body(http: Any) -> tuple[object, bool]:  # noqa: ANN401 (AttributeContext.HttpRequest, a generated class)
    """`(parsed_body, truncated_body)` of `attributes.request.http`.

    Headers that come as `header_map` (Envoy's encode_raw_headers) are not looked at, as in opa-envoy-plugin.

    Raises:
        RequestParseError: a body that its content type says can be parsed, and cannot.
    """
    headers = http.headers
    if headers.get("x-envoy-auth-partial-body") == "true":
        return None, True
    content_type: str = headers.get("content-type", "")
    parse = next((parse for name, parse in _PARSERS if name in content_type), None)
    if parse is None:
        return None, False
    payload: bytes = http.body.encode() or http.raw_body
    if not payload:
        return None, False
    if _is_truncated(headers, len(payload)):
        return None, True
    return parse(payload, content_type), False


# In opa-envoy-plugin's order: a content type that contains two of these names is the first of them.
_PARSERS: tuple[tuple[str, Callable[[bytes, str], object] | None], ...] = (
    ("application/json", lambda payload, _content_type: parse_json(payload)),
    ("application/grpc", None),
    (
        "application/x-www-form-urlencoded",
        lambda payload, _: parse_query(payload.decode("utf-8", "replace"), "form body"),
    ),
    ("multipart/form-data", _parse_multipart),
)

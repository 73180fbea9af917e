"""What the attributes of a token say, from the claims that Envoy's jwt_authn left in dynamic metadata.

Not for: finding them, in a check (`bag.py`) or in a log entry (`telemetry/`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Final

from google.protobuf import struct_pb2

JWT_AUTHN: Final = "envoy.filters.http.jwt_authn"
ISTIO_AUTHN: Final = "istio_authn"
"""Where Istio's own filter, until it was given up for Envoy's, kept the claims: under `request.auth.claims`."""
ISSUER: Final = "iss"
"""The claim that tells a token's payload from other objects that the filter leaves, such as its header."""
PRINCIPAL: Final = "iss/sub"
"""Stands for issuer and subject together, `request.auth.principal`."""

_EXACT: Final = 2**53
"""Below it a whole number is what the token said; it is written without a fraction, as times are."""


def claim_text(claims: Mapping[str, struct_pb2.Value], claim: str) -> str:
    """A claim as text, a list joined by commas; empty where there is none."""
    if claim == PRINCIPAL:
        return "/".join(_text(claims[name]) for name in ("iss", "sub")) if "sub" in claims else ""
    return _text(claims[claim]) if claim in claims else ""


def claims_as_texts(claims: Mapping[str, struct_pb2.Value], wanted: Collection[str] | None = None) -> dict[str, str]:
    """Claims as texts: one that is no text as JSON, a list of texts joined by commas.

    Args:
        claims: by name.
        wanted: names of those that are wanted; all for None.
    """
    names = claims if wanted is None else claims.keys() & wanted
    return {name: _whole(claims[name]) for name in sorted(names)}


def _text(value: struct_pb2.Value) -> str:
    """A text, or a list of texts joined by commas, as Istio writes even a single one."""
    return ",".join(item.string_value for item in value.list_value.values) or value.string_value


def _whole(value: struct_pb2.Value) -> str:
    kind = value.WhichOneof("kind")
    texts = value.list_value.values
    if kind == "string_value" or (kind == "list_value" and all(item.HasField("string_value") for item in texts)):
        return _text(value)
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))


def _plain(value: struct_pb2.Value) -> object:
    """As Python's; protobuf's own conversion refuses what is no number."""
    match value.WhichOneof("kind"):
        case "struct_value":
            return {name: _plain(member) for name, member in sorted(value.struct_value.fields.items())}
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) < _EXACT else number
    return None

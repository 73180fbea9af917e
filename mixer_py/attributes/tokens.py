"""What the attributes of a token say, from the claims that Envoy's jwt_authn left in dynamic metadata.

Not for: finding them, in a check (`bag.py`) or in a log entry (`telemetry/`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf import struct_pb2

JWT_AUTHN: Final = "envoy.filters.http.jwt_authn"
ISSUER: Final = "iss"
"""The claim that tells a token's payload from other objects that the filter leaves, such as its header."""
PRINCIPAL: Final = "iss/sub"
"""Stands for issuer and subject together, `request.auth.principal`."""


def claim_text(claims: Mapping[str, struct_pb2.Value], claim: str) -> str:
    """A claim as text, a list joined by commas; empty where there is none."""
    if claim == PRINCIPAL:
        return "/".join(claims[name].string_value for name in ("iss", "sub")) if "sub" in claims else ""
    if claim not in claims:
        return ""
    value = claims[claim]
    return ",".join(item.string_value for item in value.list_value.values) or value.string_value

"""The Rego reference of a decision's path."""

from __future__ import annotations

import re
from typing import Final

import orjson

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEYWORDS: Final = frozenset(
    "as default else every false if import in contains not null package some true with input data".split()  # noqa: SIM905
)


def reference(decision: str) -> str:
    """The Rego reference of a decision path: `envoy/authz/allow` is `data.envoy.authz.allow`."""
    parts = decision.split("/")
    return "data" + "".join(
        f".{part}" if _IDENTIFIER.fullmatch(part) and part not in _KEYWORDS else f"[{orjson.dumps(part).decode()}]"
        for part in parts
    )

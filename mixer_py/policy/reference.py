"""Paths of decisions and of the input as Rego references."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import orjson

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEYWORDS: Final = frozenset(
    "as default else every false if import in contains not null package some true with input data".split()  # noqa: SIM905
)


def reference(decision: str) -> str:
    """The Rego reference of a decision path: `envoy/authz/allow` is `data.envoy.authz.allow`."""
    return join("data", decision.split("/"))


def join(root: str, parts: Iterable[str]) -> str:
    """The Rego reference of a path below a document, `data` or `input`."""
    return root + "".join(
        f".{part}" if _IDENTIFIER.fullmatch(part) and part not in _KEYWORDS else f"[{orjson.dumps(part).decode()}]"
        for part in parts
    )

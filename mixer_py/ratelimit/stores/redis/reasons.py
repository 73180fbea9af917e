"""What an error of a server means, in one word that is a label."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "AWAY": "away",
        "BUSY": "busy",
        "CLUSTERDOWN": "cluster_down",
        "LOADING": "loading",
        "MASTERDOWN": "read_only",
        "MISCONF": "disk",
        "MOVED": "moved",
        "ASK": "moved",
        "NOAUTH": "authentication",
        "NOPERM": "no_permission",
        "NOREPLICAS": "no_replicas",
        "NONSENSE": "nonsense",
        "NOSCRIPT": "no_script",
        "OOM": "out_of_memory",
        "READONLY": "read_only",
        "TRYAGAIN": "moved",
        "UNBLOCKED": "read_only",
        "WRONGPASS": "authentication",
        "WRONGTYPE": "nonsense",
    }
)
"""By the code that the server's words begin with."""
_NOT_HERE: Final = ("non local key", "do not hash to the same slot")
"""What a script is told whose key another server holds."""
_DOWN: Final = "cluster is down"
_REFUSED: Final = "ACL failure"


def reason_of(words: str) -> str:
    """The reason for an error; `refused` for one that is not known here."""
    code, _, _ = words.removeprefix("-").partition(" ")
    known = _REASONS.get(code)
    if known is not None:
        return known
    if any(text in words for text in _NOT_HERE):
        return "moved"
    if _DOWN in words:
        return "cluster_down"
    return "no_permission" if _REFUSED in words else "refused"

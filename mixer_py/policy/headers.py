"""Which header names and values a policy's result may set. HTTP's rules (RFC 9110 5.1, 5.5), not Envoy's."""

from __future__ import annotations

import re

_TOKEN = re.compile(r":?[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# field-value without obs-fold: no controls but tab, no space at either end. Characters above ASCII travel as UTF-8,
# which are obs-text octets.
_VALUE = re.compile(r"(?:[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)?")
_PSEUDO = frozenset({":authority", ":method", ":path", ":scheme"})


def name_fault(name: str, *, pseudo: bool = False) -> str:
    """What is wrong with a header's name, or nothing.

    Args:
        name: the header's name.
        pseudo: whether HTTP/2's request pseudo headers may be set.
    """
    if _TOKEN.fullmatch(name) is None:
        return "is no HTTP header name"
    if name.startswith(":") and not (pseudo and name.lower() in _PSEUDO):
        return "is a pseudo header that cannot be set here"
    return ""


def value_fault(value: str) -> str:
    """What is wrong with a header's value, or nothing."""
    if _VALUE.fullmatch(value) is None:
        return "has a value that HTTP forbids (control characters, or space at an end)"
    return ""

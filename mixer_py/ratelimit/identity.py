"""Whose counter a hit belongs to: domain, algorithm and window, entries; never the rule or its limit.

So a rule that changes its limit, or an override in the request, goes on with the same counter.
"""

from __future__ import annotations

from hashlib import blake2b

from mixer_py.ratelimit.algorithms import Terms
from mixer_py.ratelimit.stores import Identity

_LONGEST_KEPT = 512
_MOST_PARTS_KEPT = 64


def window_name(terms: Terms) -> str:
    """Algorithm and window as one part of an identity."""
    return f"{terms.algorithm}/{terms.window}"


def counter_identity(domain: str, window: str, entries: tuple[str, ...]) -> Identity:
    """The identity of a counter; a caller's long values are hashed, so that a counter's size is bounded too.

    Args:
        domain: a configured domain.
        window: of `window_name`.
        entries: keys and values in turn.
    """
    if len(entries) <= _MOST_PARTS_KEPT and sum(map(len, entries)) <= _LONGEST_KEPT:
        return (domain, window, *entries)
    digest = blake2b(digest_size=32)
    for part in entries:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return (domain, window, digest.digest())

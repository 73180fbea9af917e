"""Names of decisions: random UUIDs (RFC 9562, version 4), made some at a time.

To ask the operating system for randomness lets other threads run, which costs a busy server 15 µs where the UUID itself
takes two. So it is asked once for many; each name still has 122 bits of it, and none is given twice.
"""

from __future__ import annotations

import os
from typing import Final

_AT_ONCE: Final = 64
_OCTETS: Final = 16
_DIGITS: Final = 2 * _OCTETS
_VARIANT: Final = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
"""The digit that carries the variant: `10` before two random bits."""


class DecisionIds:
    """Gives out names. For one thread."""

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: list[str] = []

    def draw(self) -> str:
        """A name that was never given before: 36 characters, lower case."""
        if not self._made:
            self._make()
        return self._made.pop()

    def _make(self) -> None:
        digits = os.urandom(_OCTETS * _AT_ONCE).hex()
        for first in range(0, len(digits), _DIGITS):
            one = digits[first : first + _DIGITS]
            self._made.append(f"{one[:8]}-{one[8:12]}-4{one[13:16]}-{_VARIANT[one[16]]}{one[17:20]}-{one[20:]}")

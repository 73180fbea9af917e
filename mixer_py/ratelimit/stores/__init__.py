"""Where counters are kept: the Protocol that every store fulfils, and the charge that it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

Identity = tuple[str | bytes, ...]
"""What makes two hits count together: domain, algorithm with its window's length, then the entries' keys and values in
turn. Injective, because the parts stay apart; the rule and its limit are no part of it."""


class Charge(NamedTuple):
    """Hits on one counter.

    Attributes:
        identity: whose counter.
        window: length and start of the window in seconds (since the epoch).
        reset: whole seconds until that window ends.
        hits: how many to add; 0 only looks.
    """

    identity: Identity
    window: tuple[int, int]
    reset: int
    hits: int


class CounterStore(Protocol):
    """Counts hits by identity and window."""

    async def add(self, charges: Sequence[Charge]) -> Sequence[int | None]:
        """Adds each charge in turn.

        Returns:
            For each charge the hits of its window with its own included, or None for the one that could not be kept
            while the others were.

        Raises:
            CounterStoreError: nothing could be kept.
        """

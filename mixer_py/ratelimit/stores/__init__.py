"""Where counters are kept: the Protocol that every store fulfils, and the charge that it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from mixer_py.ratelimit.algorithms import Tally, Terms

Identity = tuple[str | bytes, ...]
"""What makes two hits count together: domain, algorithm with its window's length, then the entries' keys and values in
turn. Injective, because the parts stay apart; the rule and its limit are no part of it."""


class Charge(NamedTuple):
    """Hits on one counter.

    Attributes:
        identity: whose counter.
        terms: what they are held against; algorithm and window are those of the identity.
        hits: how many; 0 only looks, negative ones are given back.
        lease: hits that a worker may take ahead of the shared store, to answer the next charges by itself; 0 for
            none. Only `leases.py` looks at it.
    """

    identity: Identity
    terms: Terms
    hits: int
    lease: int = 0


class CounterStore(Protocol):
    """Counts hits by identity, each by the algorithm of its terms, at the store's own time."""

    async def charge(self, charges: Sequence[Charge], *, together: bool = False) -> Sequence[Tally | None]:
        """Charges each in turn.

        Args:
            charges: of one request.
            together: all of them, or none when one does not fit; else fixed windows count hits that do not fit too,
                as envoyproxy/ratelimit does, and the other algorithms only those that do.

        Returns:
            What became of each, or None for the one that could not be kept while the others were. Where `together`
            charged nothing because one did not fit, the others tell what is left without the charge.

        Raises:
            CounterStoreError: nothing could be kept.
        """

    @property
    def is_away(self) -> bool:
        """Whether charges fail now, or some of them: until it is asked it may not know."""

    def open(self) -> None:
        """Begins to connect, in the running event loop; what is charged meanwhile waits."""

    async def close(self) -> None:
        """Gives back what the store holds outside this process."""

"""What a fault is: how it is brought about, what is promised, and what was seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.scene import Scene


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong under load.

    Attributes:
        name: as a person on call would say it.
        setup: the parts that run, by their name in `setups.py`.
        promise: what callers and rows are promised.
        inject: brings it about, and where it does not end by itself takes it away again; traffic goes on meanwhile.
        failing: requests that may fail at most; None for any number while it lasts.
        heals: seconds after `inject` has returned until which requests may still fail.
        losing: reasons for which rows may be dropped, each of them counted.
        holds: what else must be true afterwards: words for what is not.
        short: belongs to the short form that CI runs.
    """

    name: str
    setup: str
    promise: str
    inject: Callable[[Scene], None]
    failing: int | None = 0
    heals: float = 0.0
    losing: frozenset[str] = frozenset()
    holds: Callable[[Scene], str] | None = None
    short: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What a fault did.

    Attributes:
        sent, failed: requests, from its begin until all was well.
        healed: seconds from the end of `inject` until the last failure; 0 when none came later.
        slowest: seconds of the slowest request that passed.
        lost: rows that were dropped, by reason.
        unlogged: requests that were answered and have no row of `requests`: Envoy's log entries are sent at most once.
        broken: what was promised and did not hold.
    """

    sent: int
    failed: int
    healed: float
    slowest: float
    lost: dict[str, int] = field(default_factory=dict)
    unlogged: int = 0
    broken: tuple[str, ...] = ()

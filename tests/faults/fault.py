"""What a fault is: how it is brought about, what is promised, and what was seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.scene import Scene


Inject = Callable[["Scene"], None]
"""Brings something about, and where it does not end by itself takes it away again."""

State = Callable[["Scene"], AbstractContextManager[object]]
"""Something that is wrong for as long as the block takes."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong under load.

    Attributes:
        name: as a person on call would say it.
        setup: the parts that run, by their name in `setups.py`.
        promise: what callers and rows are promised.
        inject: brings it about, and where it does not end by itself takes it away again; traffic goes on meanwhile.
        failing: requests that may fail at most; None for any number while it lasts.
        heals: seconds after `inject` has returned until which requests may still fail, on a machine that does nothing
            else.
        losing: reasons for which rows may be dropped, each of them counted.
        holds: what else must be true afterwards: words for what is not.
    """

    name: str
    setup: str
    promise: str
    inject: Inject
    failing: int | None = 0
    heals: float = 0.0
    losing: frozenset[str] = frozenset()
    holds: Callable[[Scene], str] | None = None


@dataclass(frozen=True, slots=True)
class Lasting:
    """Something that stays wrong for a while: so long that mixer can be told to end meanwhile.

    Attributes:
        name: as a person on call would say it, after "SIGTERM with".
        setup: the parts that run, by their name in `setups.py`.
        state: brings it about, and takes it away again.
        losing: reasons for which rows may be dropped when mixer ends meanwhile.
    """

    name: str
    setup: str
    state: State
    losing: frozenset[str] = frozenset()


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


def lasting(state: State, seconds: float = 2.0) -> Inject:
    """Lets a state last for so long."""

    def inject(scene: Scene) -> None:
        with state(scene):
            time.sleep(seconds)

    return inject

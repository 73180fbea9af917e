"""What a fault is: how it is brought about, what is promised, and what was seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.scene import Scene


Inject = Callable[["Scene"], None]
"""Brings something about, and where it does not end by itself takes it away again."""

State = Callable[["Scene"], AbstractContextManager[object]]
"""Something that is wrong for as long as the block takes; it ends also when mixer has ended meanwhile."""


@dataclass(frozen=True, slots=True)
class While:
    """Brings about what lasts for a while: so mixer can be told to end meanwhile.

    Attributes:
        state: what is wrong, without anything that waits for mixer's answer to it.
        inject: lets it last as long as the promise needs, and waits until mixer has mended what it is to mend.
    """

    state: State
    inject: Inject

    def __call__(self, scene: Scene) -> None:
        """Injects it."""
        self.inject(scene)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong under load.

    Attributes:
        name: as a person on call would say it.
        setup: the parts that run, by their name in `setups.py`.
        promise: what callers and rows are promised.
        inject: brings it about, and where it does not end by itself takes it away again; traffic goes on meanwhile.
            A `While` where mixer can be told to end in the middle of it: then that is a fault, too.
        failing: requests that may fail at most; None for any number while it lasts.
        heals: seconds after `inject` has returned until which requests may still fail, on a machine that does nothing
            else.
        losing: reasons for which rows may be dropped, each of them counted.
        holds: what else must be true afterwards: words for what is not.
        ending: reasons for which rows may be dropped, besides, when mixer is told to end meanwhile.
        unbooked: whether decisions may be lost that nobody is left to count.
        lacks: why it cannot be injected on this machine; empty where it can.
    """

    name: str
    setup: str
    promise: str
    inject: Inject
    failing: int | None = 0
    heals: float = 0.0
    losing: frozenset[str] = frozenset()
    holds: Callable[[Scene], str] | None = None
    ending: frozenset[str] = frozenset()
    unbooked: bool = False
    lacks: Callable[[], str] = str


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


def lasting(state: State, seconds: float = 2.0, until: Inject | None = None) -> While:
    """Lets a state last for so long, and waits `until` all is well."""

    def inject(scene: Scene) -> None:
        with state(scene):
            time.sleep(seconds)
        if until is not None:
            until(scene)

    return While(state, inject)


def at_once(*states: State) -> State:
    """All of these together."""

    @contextmanager
    def state(scene: Scene) -> Iterator[None]:
        with ExitStack() as stack:
            for one in states:
                stack.enter_context(one(scene))
            yield

    return state


def within(outer: State, act: Inject, after: Inject | None = None) -> Inject:
    """Does something while something else is under way, until mixer is ready; what lasts for a while still does."""

    def inject(scene: Scene) -> None:
        with outer(scene):
            act(scene)
            scene.eventually(scene.ready, "readiness")
        if after is not None:
            after(scene)

    return While(at_once(outer, act.state), inject) if isinstance(act, While) else inject


def again(act: Inject, times: int, pause: float) -> While:
    """Does something at once, so many times; mixer may be told to end after the first."""

    @contextmanager
    def state(scene: Scene) -> Iterator[None]:
        act(scene)
        yield

    def inject(scene: Scene) -> None:
        for _ in range(times):
            act(scene)
            time.sleep(pause)

    return While(state, inject)

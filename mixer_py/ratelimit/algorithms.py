"""How hits become a verdict: fixed window, sliding window and token bucket, as pure functions of a counter's state.

A state says what was used and when, never against which limit: so a rule that changes its limit, or a limit that a
request brings along, goes on with the same counter. Times are whole microseconds since the epoch. The stores that
count elsewhere have the same arithmetic in scripts of theirs, and a test that holds both against each other.
Not for: keeping states (`stores/`), or what a verdict means for a request (`answering/`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil, floor
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

Algorithm = Literal["fixed_window", "sliding_window", "token_bucket"]
"""Part of a counter's identity, so that another algorithm over the same entries counts apart."""

FIXED_WINDOW: Final = "fixed_window"
SLIDING_WINDOW: Final = "sliding_window"
TOKEN_BUCKET: Final = "token_bucket"  # noqa: S105 (an algorithm)

SECOND: Final = 1_000_000
"""Microseconds."""

UNIT_SECONDS: Mapping[str, int] = MappingProxyType(
    {
        "SECOND": 1,
        "MINUTE": 60,
        "HOUR": 3600,
        "DAY": 86_400,
        "WEEK": 7 * 86_400,
        "MONTH": 30 * 86_400,
        "YEAR": 365 * 86_400,
    }
)
"""Seconds of each `RateLimitResponse.RateLimit.Unit`; a month is 30 days, a year 365 (envoyproxy/ratelimit)."""

MOST_USED: Final = 2**53
"""No counter goes above it: whole numbers up to here are exact in every store."""

LONGEST: Final = 2**52
"""Microseconds, 142 years: nothing that is told takes longer, so that it is exact in every store with a time added."""


class Terms(NamedTuple):
    """What hits are held against.

    Attributes:
        algorithm: how they are counted.
        window: microseconds, at least 1.
        limit: hits that a window takes; of a token bucket the tokens that come back in a window.
        burst: hits that may come at once: the tokens a full bucket holds; of the windows the same as `limit`.
        overdraw: count hits that do not fit too, so that they have to be made up for.
    """

    algorithm: Algorithm
    window: int
    limit: int
    burst: int
    overdraw: bool = False

    @property
    def always(self) -> bool:
        """Whether hits that do not fit are counted: of a fixed window always, as envoyproxy/ratelimit does."""
        return self.overdraw or self.algorithm == FIXED_WINDOW


class State(NamedTuple):
    """What a counter knows.

    Attributes:
        moment: microseconds since the epoch: the start of the window, or when the bucket was last looked into.
        used: hits of that window, or tokens that are missing in the bucket.
        before: hits of the window before it; of the sliding window only.
    """

    moment: int
    used: float
    before: float


class Tally(NamedTuple):
    """What became of a charge.

    Attributes:
        admitted: whether its hits fit; a look (no hits) fits as long as the limit is not passed.
        remaining: whole hits that would still fit.
        over: how many of its hits did not fit, as far as they can be counted (`MOST_USED`).
        reset: microseconds until nothing is counted against the limit any more.
        retry: microseconds until one more hit would fit; 0 when it would now.
        local: whether a worker knew by itself that it would not fit, and asked no store.
    """

    admitted: bool
    remaining: int
    over: int
    reset: int
    retry: int
    local: bool = False


def fixed_window(state: State | None, now: int, terms: Terms, hits: int, *, always: bool) -> tuple[State, Tally]:
    """Counts the hits of windows that are aligned to the epoch (envoyproxy/ratelimit).

    Args:
        state: what the counter knows; None for a new one.
        now: microseconds since the epoch.
        terms: what the hits are held against.
        hits: how many; 0 only looks, negative ones are given back.
        always: count hits also when they do not fit.

    Returns:
        What the counter knows now, and what became of the hits.
    """
    _, window, limit, _, _ = terms
    start = now - now % window
    used = 0.0
    if state is not None and start <= state.moment <= start + window:  # a later one as in `_start`
        start, used = state.moment, state.used
    after = used + hits
    if not 0 <= after <= MOST_USED:
        after = min(max(after, 0), MOST_USED)
    admitted, over = after <= limit or hits < 0, 0
    if admitted:
        used = after
    elif always:
        used, over = after, int(min(after - limit, hits))
    else:
        over = min(hits, MOST_USED)
    reset = start + window - now
    left = int(limit - used)
    if left > 0:
        return State(start, used, 0), Tally(admitted, left, over, reset, 0)
    return State(start, used, 0), Tally(admitted, 0, over, reset, reset)


def sliding_window(state: State | None, now: int, terms: Terms, hits: int, *, always: bool) -> tuple[State, Tally]:
    """Counts the hits of the last window: those of the present fixed window, and a part of those of the one before.

    That part is as large as what the last window covers of it, as if its hits had come evenly. Arguments and result are
    `fixed_window`'s.
    """
    _, window, limit, _, _ = terms
    start = _start(state, now, window)
    used, before = 0.0, 0.0
    if state is not None:
        if state.moment == start:
            used, before = state.used, state.before
        elif state.moment == start - window:
            before = state.used
    elapsed = max(now - start, 0)
    faded = before * ((window - elapsed) / window)
    admitted, over, used = _take(used, faded, hits, limit, always=always)
    left = limit - (faded + used)
    reset = start + 2 * window - now if used > 0 else (start + window - now if before > 0 else 0)
    retry = 0 if left >= 1 else _until_room(used, before, start - now, terms)
    return State(start, used, before), Tally(admitted, max(floor(left), 0), over, reset, retry)


def token_bucket(state: State | None, now: int, terms: Terms, hits: int, *, always: bool) -> tuple[State, Tally]:
    """Takes a token a hit from a bucket of `burst` tokens, into which `limit` come back evenly in a window (GCRA).

    The state is what is missing in the bucket, in hits, where GCRA keeps the time at which it would be full again: the
    same, but for a limit that changes, after which as many hits are missing as before. Arguments and result are
    `fixed_window`'s.
    """
    _, window, limit, burst, _ = terms
    missing = 0.0
    moment = now
    if state is not None:
        missing = state.used
        if 0 < state.moment - now <= window:
            moment = state.moment
        missing = max(missing - float(max(moment - state.moment, 0)) * limit / window, 0.0)  # as doubles do it
    admitted, over, missing = _take(missing, 0.0, hits, burst, always=always)
    left = burst - missing
    if not limit:
        return State(moment, missing, 0), Tally(admitted, max(floor(left), 0), over, window, 0 if left >= 1 else window)
    reset = min(ceil(missing * window / limit), LONGEST) + moment - now
    retry = 0 if left >= 1 else min(ceil((missing + 1 - burst) * window / limit), LONGEST) + moment - now
    return State(moment, missing, 0), Tally(admitted, max(floor(left), 0), over, reset, retry)


def _start(state: State | None, now: int, window: int) -> int:
    """The start of the window that holds `now`.

    Callers whose clocks differ, or one whose clock is set back a little, go on in the later window; else each of them
    would begin it anew.
    """
    start = now - now % window
    return state.moment if state is not None and start < state.moment <= start + window else start


def _take(used: float, faded: float, hits: int, limit: int, *, always: bool) -> tuple[bool, int, float]:
    """Whether hits fit beside what is used, how many do not, and what is used then."""
    if hits < 0:
        return True, 0, max(used + hits, 0.0)
    admitted = used + faded + hits <= limit
    if admitted or always:
        used = float(min(used + hits, MOST_USED))
    return admitted, 0 if admitted else min(hits, MOST_USED), used


def _until_room(used: float, before: float, started: int, terms: Terms) -> int:
    """Microseconds until a sliding window has room for one hit, if none comes before.

    Args:
        used: hits of the present window.
        before: hits of the window before.
        started: when the present window began, as seen from now: 0 or less (more when clocks differ).
        terms: window and limit.
    """
    window, room = terms.window, terms.limit - 1
    if room < 0:
        return started + window
    if used <= room and before > 0:
        return max(started + ceil(window * (1 - (room - used) / before)), 1)
    return max(started + window + (ceil(window * (1 - room / used)) if used > room else 0), 1)


Count = Callable[..., tuple[State, Tally]]

COUNT: Final[Mapping[str, Count]] = MappingProxyType(
    {FIXED_WINDOW: fixed_window, SLIDING_WINDOW: sliding_window, TOKEN_BUCKET: token_bucket}
)
"""The function of each algorithm."""

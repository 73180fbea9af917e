"""How hits become windows: arithmetic on whole seconds, with no state and no clock of its own.

Not for: keeping counts (`stores/`) or deciding what a count means (`limiter.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

FIXED_WINDOW = "fixed_window"
"""Part of a counter's identity, so that another algorithm over the same entries counts apart."""

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


def window_start(now: int, seconds: int) -> int:
    """The start of the fixed window that holds `now`, aligned to the epoch.

    Args:
        now: seconds since the epoch, rounded down.
        seconds: length of the window.
    """
    return now - now % seconds


def seconds_until_reset(now: int, seconds: int) -> int:
    """Whole seconds until the window that holds `now` ends: at least 1, at most `seconds`."""
    return seconds - now % seconds


def is_over(count: int, limit: int) -> bool:
    """Whether the hits so far, those of this request included, are more than the limit."""
    return count > limit


def remaining(count: int, limit: int) -> int:
    """Hits that are left in the window; never negative."""
    return limit - count if count < limit else 0

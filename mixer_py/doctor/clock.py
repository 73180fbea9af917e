"""Whether this machine knows what time it is: windows of limits, tokens' expiry and rows' order hang on it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Final

from mixer_py.doctor.finding import Finding, good, skipped, warning

_TIMEX_BYTES: Final = 1024
"""More than `struct timex` of adjtimex(2) takes on any Linux; all zeros in it ask and change nothing."""
_TIME_ERROR: Final = 5
_TOLERATED: Final = 1.0
"""Seconds that two clocks may differ: a window of a limit has no fewer."""


def examine_clock() -> Iterator[Finding]:
    """Asks the kernel whether anything keeps its clock right (adjtimex(2))."""
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    if state == _TIME_ERROR:
        yield warning(
            "clock", "nothing keeps this machine's clock right", "run chrony, systemd-timesyncd or ntpd on the host"
        )
    elif state < 0:
        yield skipped("clock", "the kernel does not tell here whether its clock is kept right")
    else:
        yield good("clock", "is kept right, says the kernel")


def compare_clock(whose: str, ahead: float) -> Finding:
    """Says how far another clock is from this machine's.

    Args:
        whose: who has it.
        ahead: seconds, negative when it is behind; its answer's way is part of it.
    """
    if abs(ahead) <= _TOLERATED:
        return good(f"clock of {whose}", f"differs by {abs(ahead):.1f} s at most")
    where = "ahead of" if ahead > 0 else "behind"
    return warning(f"clock of {whose}", f"is {abs(ahead):.1f} s {where} this machine's", "keep both right with NTP")

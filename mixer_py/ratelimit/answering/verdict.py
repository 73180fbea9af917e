"""Which descriptor of a request decides, and whether the request is over.

A request is over when a limit is over that is not in quota mode, or when every limit in quota mode is
(envoyproxy/ratelimit). Not for: the answer (`responses.py`).
"""

from __future__ import annotations

from mixer_py.ratelimit.answering.targets import Target
from mixer_py.ratelimit.answering.wording import UNLIMITED_REMAINING
from mixer_py.ratelimit.headers import Told

OVER = -1
"""Left of a descriptor that is over: it decides before every descriptor that still has room."""


class Verdict:
    """Takes the descriptors of one request in turn, and is closed after the last.

    Attributes:
        target: the limit of the deciding descriptor: the last one that is over, else the first of those with the least
            remaining; None when none is limited.
        left: what remains under it, or `OVER`.
        shown: what headers tell about it; None when it has nothing to tell.
        retry: microseconds until every limit that made the request be over has room for a hit.
    """

    __slots__ = ("_exhausted", "_quota_left", "left", "retry", "shown", "target")

    def __init__(self) -> None:
        self.target: Target | None = None
        self.left = UNLIMITED_REMAINING + 1
        self.shown: Told | None = None
        self.retry = 0
        self._exhausted: list[tuple[Target, Told | None]] | None = None
        self._quota_left = False

    def take(self, target: Target, left: int, told: Told | None) -> None:
        """Takes a descriptor: its limit, what is left or `OVER`, and what headers tell about it."""
        if target.quota_mode:
            if left == OVER:
                self._exhausted = self._exhausted or []
                self._exhausted.append((target, told))
                left = 0
            else:
                self.let_in(target)
        if left == OVER:
            self._refuse(target, told)
        elif left < self.left:
            self.target, self.left, self.shown = target, left, told

    def let_in(self, target: Target) -> None:
        """Takes a descriptor that is let in without anything being known about it."""
        self._quota_left = self._quota_left or (target.quota_mode and not target.unlimited)

    def close(self) -> bool:
        """Whether the request is over."""
        if self._exhausted and not self._quota_left:
            retry = min((told.tally.retry for _, told in self._exhausted if told is not None), default=0)
            target, shown = self._exhausted[-1]
            if self.left != OVER:
                self.target, self.left, self.shown = target, OVER, shown
            self.retry = max(self.retry, retry)
        return self.left == OVER

    def _refuse(self, target: Target, told: Told | None) -> None:
        self.target, self.left, self.shown = target, OVER, told
        if told is not None:
            self.retry = max(self.retry, told.tally.retry)

"""What a worker holds of one counter: the hits that it took ahead, until when it may use them, what it last heard.

Not for: talking to the shared store (`leases.py`).
"""

from __future__ import annotations

from math import ceil, inf
from typing import Final

from mixer_py.ratelimit.algorithms import SECOND, SLIDING_WINDOW, TOKEN_BUCKET, Tally, Terms
from mixer_py.ratelimit.lease_bounds import LARGEST_PART, lasting
from mixer_py.ratelimit.stores import Charge, Identity

MARGIN: Final = 1.0
"""Seconds before the end of a window from which nothing is given back into it: given back late, it would be taken off
the next window's hits."""
_NEVER: Final = -1


class Taken:
    """Hits that were charged ahead in one go. Times are seconds of the monotonic clock.

    Attributes:
        left: hits that are not used yet.
        until: from when on they are used no more.
        low: when so few are left, more are taken.
        renew: when more are taken, however many are left.
        retired: whether they were given back, or are over.
    """

    __slots__ = ("_ends", "_returning", "_sent", "left", "low", "renew", "retired", "until")

    def __init__(self, hits: int, terms: Terms, tally: Tally, sent: float) -> None:
        """Holds hits that the shared store has charged.

        Args:
            hits: how many.
            terms: what they were held against.
            tally: the store's answer.
            sent: when the store was asked. Its clock read that moment or a later one, so what is reckoned from here
                is over no later than in the store.
        """
        self.left = hits
        self.low = hits // 2
        self.retired = False
        self._sent = sent
        self._ends = inf
        self._returning = 0.0
        if terms.algorithm == TOKEN_BUCKET:
            self._returning = terms.limit * SECOND / terms.window
        elif terms.algorithm == SLIDING_WINDOW:
            self._ends = sent + (tally.reset - terms.window) / SECOND
        else:
            self._ends = sent + tally.reset / SECOND
        lasts = lasting(terms) / SECOND
        self.until = min(self._ends, sent + lasts)
        self.renew = sent + lasts / 2 if self.until < self._ends else inf

    def take_no_more(self) -> None:
        """Lets these be used up without more being taken: there is too little left."""
        self.low, self.renew = _NEVER, inf

    def add(self, more: Taken) -> None:
        """Puts others to these; together they are over when the first of them are."""
        self.left += more.left
        self.until = min(self.until, more.until)
        self.renew = min(self.renew, more.renew)
        self._ends = min(self._ends, more._ends)
        self._sent = min(self._sent, more._sent)
        more.left, more.retired = 0, True

    def returnable(self, hits: int, now: float) -> int:
        """How many of some hits can be given back so that the counter stands no lower than if they were never taken.

        Hits of a window go back as long as it lasts, less a margin. Tokens come back by themselves; as many as may have
        done so since are kept off, because a bucket that was full has lost them.
        """
        if now + MARGIN >= self._ends:
            return 0
        return max(hits - ceil((now + MARGIN - self._sent) * self._returning), 0)


class Share:
    """What a worker has and knows of one counter.

    Attributes:
        identity: the counter's.
        terms: of the rule.
        lease: most hits to hold.
        taken: hits in use.
        following: hits for when those are used up.
        coming: hits that are being taken; 0 when none are.
        gone: whether another share has taken its place, so that what still arrives goes back.
        patience: seconds of the monotonic clock before which the store is not asked for more.
    """

    __slots__ = (
        "_reset", "_retry", "coming", "elsewhere", "following", "gone", "identity", "lease", "patience", "taken",
        "terms",
    )  # fmt: skip

    def __init__(self, charge: Charge, tally: Tally, sent: float) -> None:
        """Holds nothing yet; the arguments are those of `Taken`."""
        self.identity: Identity = charge.identity
        self.terms = charge.terms
        self.lease = charge.lease
        self.taken = Taken(0, charge.terms, tally, sent)
        self.following: Taken | None = None
        self.coming = 0
        self.gone = False
        self.patience = 0.0
        self.learn(tally, sent)

    def learn(self, tally: Tally, sent: float) -> None:
        """Keeps what the store said last, for the answers that are given without it."""
        self.elsewhere = tally.remaining
        self._reset = sent + tally.reset / SECOND
        self._retry = sent + tally.retry / SECOND

    def advance(self) -> None:
        """Goes over to the hits that follow, with what is left of those in use; the caller has retired what is over."""
        following, self.following = self.following, None
        if following is None:
            return
        if self.taken.left:
            self.taken.add(following)
        else:
            self.taken = following

    def is_low(self, now: float) -> bool:
        """Whether what is in use runs out, or has."""
        taken = self.taken
        return taken.left <= max(taken.low, 0) or now >= taken.until

    def room(self, now: float) -> int:
        """How many hits may be added to those that are held or on their way."""
        held = self.taken.left if now < self.taken.until else 0
        return self.lease - held - self.coming - (self.following.left if self.following is not None else 0)

    def wanted(self, now: float) -> int:
        """How many more hits to take: up to the lease, and only a part of what is left in the store."""
        return min(self.room(now), self.elsewhere // LARGEST_PART)

    def tally(self, now: float) -> Tally:
        """The answer to a charge that was met from here.

        What other workers used or hold since the store last answered is not in it, so `remaining` may be too high by
        that; what others hold counts as used, so it may be too low. `reset` and `retry` are the store's, less the time
        since.
        """
        remaining = self.taken.left + self.elsewhere
        following = self.following
        if following is not None:
            remaining += following.left
        reset = int((self._reset - now) * SECOND)
        retry = 0 if remaining else max(int((self._retry - now) * SECOND), 1)
        return Tally(True, remaining, 0, max(reset, 0), retry)  # noqa: FBT003 (a field of the tuple)

"""How far leases can move a limit, up and down: arithmetic that `/rlconfig`, the documents and the tests share.

A leased hit is charged in the shared store *before* it is used, so no hit is used that no limit had room for. What a
lease moves is time: a hit charged at one moment is used a little later. From this follows everything here.

- *Any algorithm.* What is used in a stretch of time was charged in it, or before it and was still held when it began.
  A worker never holds more than its lease, what is on its way to it included. So in any stretch at most
  `workers x lease` hits are used beyond those that were charged in it.
- *Fixed window.* A lease ends with its window. What is used in a window was charged in it: nothing beyond the limit.
- *Sliding window.* A lease ends with the aligned window that it was charged in. So the limit holds in every aligned
  window and twice the limit in any stretch as long, as without leases. Against the estimate that the algorithm makes
  of the last window at most `workers x lease` are used late, and never more than one window's limit.
- *Token bucket.* A lease ends after `lasting()`, at most a window. So what was held when a stretch began came out of
  the bucket in the window before it, and that is at most `burst + limit`.

What is not used makes a limit stricter: `under_admission`. A worker that is killed takes at most its lease with it. Not
for: taking leases (`stores/leases.py`).
"""

from __future__ import annotations

from typing import Final

from mixer_py.ratelimit.algorithms import FIXED_WINDOW, SECOND, SLIDING_WINDOW, TOKEN_BUCKET, Terms

LONGEST_LEASE: Final = 10 * SECOND
"""Microseconds after which hits that were taken ahead are used no more."""
LARGEST_PART: Final = 4
"""No more than one part in so many of what is left of a quota is taken ahead at once: near the limit leases shrink to
nothing, so that a quota is used to its last hit by whichever worker is asked."""

_ANY_NUMBER: Final = 2**32
"""Of workers: more than there are."""


def lasting(terms: Terms) -> int:
    """Microseconds for which hits may be used after they were charged, if their window does not end before."""
    return min(LONGEST_LEASE, terms.window)


def most_held(terms: Terms, lease: int) -> int:
    """Hits that a worker can hold at one time, what is on its way to it included."""
    return min(lease, terms.burst)


def over_admission(terms: Terms, lease: int, workers: int) -> int:
    """Hits that a window may let in beyond what the algorithm itself lets in, however the workers fare.

    Args:
        terms: of the rule.
        lease: hits that a worker may hold of it; 0 for none.
        workers: processes that decide by the rule, on all machines, each dead one whose hits are still held included
            (a dead worker uses none, so this is no matter of restarts).
    """
    if terms.algorithm == FIXED_WINDOW:
        return 0
    charged_before = terms.limit if terms.algorithm == SLIDING_WINDOW else terms.burst + terms.limit
    return min(workers * most_held(terms, lease), charged_before)


def under_admission(terms: Terms, lease: int, workers: int) -> int:
    """Hits that a window may refuse although they would have fit: those that workers took and did not use.

    Windows get back what is not used, but for what is held at their end. Tokens that are not used are gone, because
    nobody can tell whether a full bucket would have lost them: a lease each time that one has ended.

    Args:
        terms: of the rule.
        lease: hits that a worker may hold of it; 0 for none.
        workers: that take hits and are then asked for none, that die in this window, and as many again as there are
            answers of the store that get lost.
    """
    held = workers * most_held(terms, lease)
    if terms.algorithm == TOKEN_BUCKET:
        return min(held * (terms.window // lasting(terms) + 1), terms.burst + terms.limit)
    return min(held, terms.limit)


def describe_bounds(terms: Terms, lease: int) -> dict[str, object]:
    """Both bounds for `/rlconfig`: hits a window that each worker may add, and how many all of them at most."""
    return {
        name: {"each_worker": bound(terms, lease, 1), "at_most": bound(terms, lease, _ANY_NUMBER)}
        for name, bound in (("over_admission", over_admission), ("under_admission", under_admission))
    }


def describe_over_admission(terms: Terms, lease: int) -> str:
    """The same in words, for people."""
    each, most = over_admission(terms, lease, 1), over_admission(terms, lease, _ANY_NUMBER)
    return f"{each} each worker up to {most}" if each else "none"

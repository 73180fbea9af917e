"""Headers that tell a client about its limits: which ones, in which form.

For the deciding descriptor these are envoyproxy/ratelimit's three. For every descriptor they are the two of
draft-ietf-httpapi-ratelimit-headers: `RateLimit-Policy` and `RateLimit` are lists of named policies, so each limit
stands beside its own remainder, where three repeated headers would leave a client to guess which belong together.
Not for: Envoy's own `X-RateLimit-*`, which its filter makes of the statuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from envoy.service.ratelimit.v3 import rls_pb2

from mixer_py.ratelimit.algorithms import SECOND, Tally, Terms
from mixer_py.ratelimit.settings import HeaderSettings

MOST_TOLD = 32
"""Descriptors that the headers of one answer tell about; Envoy refuses answers whose headers are too large."""
POLICY, LIMITS, RETRY_AFTER = "RateLimit-Policy", "RateLimit", "Retry-After"


class Told(NamedTuple):
    """A limited descriptor, as the headers tell it.

    Attributes:
        position: its place in the request, from 0.
        label: name and policy of `policy_label`.
        terms: limit and window.
        tally: what became of its charge.
    """

    position: int
    label: tuple[str, str]
    terms: Terms
    tally: Tally


class Headers:
    """Writes the headers of answers, as the settings say."""

    def __init__(self, settings: HeaderSettings) -> None:
        self._every = settings.of == "every"
        self._limit = settings.limit
        self._remaining = settings.remaining
        self._reset = settings.reset

    def write(self, told: Sequence[Told], deciding: Told | None, retry: int | None) -> bytes:
        """The headers of an answer, a part of a RateLimitResponse.

        Args:
            told: every limited descriptor whose counter could be kept, in their order.
            deciding: the one that decides; None when its counter could not be kept.
            retry: microseconds until one more hit fits everywhere; None when nothing is refused.
        """
        response = rls_pb2.RateLimitResponse()
        add = response.response_headers_to_add.add
        if self._every and told:
            policies, limits = [], []
            for position, (name, policy), _, tally in told[:MOST_TOLD]:
                quoted = name or f'"{position + 1}"'
                policies.append(quoted + policy)
                limits.append(f"{quoted};r={tally.remaining};t={_seconds(tally.reset)}")
            add(key=POLICY, value=", ".join(policies))
            add(key=LIMITS, value=", ".join(limits))
        elif deciding is not None and not self._every:
            add(key=self._limit, value=str(deciding.terms.limit))
            add(key=self._remaining, value=str(0 if retry is not None else deciding.tally.remaining))
            add(key=self._reset, value=str(_seconds(deciding.tally.reset)))
        if retry is not None:
            add(key=RETRY_AFTER, value=str(max(_seconds(retry), 1)))
        written: bytes = response.SerializeToString()
        return written


def policy_label(name: str, terms: Terms) -> tuple[str, str]:
    """A limit's name as a quoted string (RFC 9651, 3.3.3), empty for one without; and its quota and window.

    A window that is not of whole seconds has no `w`.
    """
    window = f";w={terms.window // SECOND}" if terms.window % SECOND == 0 else ""
    plain = "".join(letter if " " <= letter <= "~" else "?" for letter in name)
    quoted = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"' if name else "", f";q={terms.limit}{window}"


def _seconds(microseconds: int) -> int:
    return -(-microseconds // SECOND)

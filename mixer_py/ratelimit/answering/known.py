"""Requests that came before, by their bytes: what they ask for need not be found out again.

Bounded, and kept in two halves: what is asked for again moves to the fresh one, and when that is full the other is let
go of. So a flood of requests that come once drives out little that is used. Not for: reading one (`requests.py`).
"""

from __future__ import annotations

from typing import Final

from mixer_py.ratelimit.answering.requests import Asked

_HALF: Final = 512 * 1024
"""Bytes of requests in each half; what is known of them takes about ten times that."""
_LONGEST: Final = 4096
"""A longer request is read each time."""
_EACH: Final = 64
"""Bytes that a request counts for besides its own."""


class KnownRequests:
    """What requests ask for, under one revision of the rules."""

    __slots__ = ("_before", "_fresh", "_room")

    def __init__(self) -> None:
        self._fresh: dict[bytes, Asked] = {}
        self._before: dict[bytes, Asked] = {}
        self._room = _HALF

    def get(self, message: bytes) -> Asked | None:
        """What a request asks for that came before; None for one that did not, or long ago."""
        asked = self._fresh.get(message)
        if asked is None:
            asked = self._before.get(message)
            if asked is not None:
                self.keep(message, asked)
        return asked

    def keep(self, message: bytes, asked: Asked) -> None:
        """Remembers a request, unless it is long."""
        if len(message) > _LONGEST:
            return
        self._room -= len(message) + _EACH
        if self._room < 0:
            self._before, self._fresh = self._fresh, {}
            self._room = _HALF - len(message) - _EACH
        self._fresh[message] = asked

    @property
    def size(self) -> int:
        """Requests that are remembered, those twice that are in both halves."""
        return len(self._fresh) + len(self._before)

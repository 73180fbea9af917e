"""What was last reported of each open connection, so that a report says what came since the one before.

Envoy's counts are cumulative (mixer.md 2.1). Entries may be lost, and a connection may be older than this process.
Not for: reading entries (`connections.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

MOST_CONNECTIONS: Final = 100_000
"""Open connections that are remembered, at some 300 bytes each."""
_LONGEST_ID: Final = 128
"""Envoy's ids have 36 characters; a longer one is not worth remembering."""


class Event(IntEnum):
    """What a report tells of, by Mixer's words for `connection.event`."""

    OPEN = 0
    CONTINUE = 1
    CLOSE = 2


class Report(NamedTuple):
    """One entry.

    Attributes:
        connection: its id; empty when Envoy gave none.
        event: what happened.
        start: when the connection began, nanoseconds since the epoch by Envoy's clock.
        received: bytes until now.
        sent: idem.
        reached: whether its upstream cluster is known already.
    """

    connection: str
    event: int
    start: int
    received: int
    sent: int
    reached: bool


class _Known(NamedTuple):
    received: int
    sent: int
    opened: bool
    start: int


@dataclass(frozen=True, slots=True)
class Steps:
    """What some reports add, in their order.

    Attributes:
        received: bytes since the connection's report before.
        sent: idem.
        opened: whether the connection counts as opened by this report; once for each.
        resumed: connections first heard of in the middle, whose bytes until then are not counted.
    """

    received: Sequence[int]
    sent: Sequence[int]
    opened: Sequence[bool]
    resumed: int


class ConnectionTracker:
    """Remembers connections between reports; bounded, the one heard of longest ago is forgotten first."""

    def __init__(self, now: int, most: int = MOST_CONNECTIONS) -> None:
        """Starts to listen.

        Args:
            now: nanoseconds since the epoch.
            most: connections to remember.
        """
        self._known: dict[str, _Known] = {}
        self._most = most
        self._began = now
        self._forgotten = 0

    def step(self, reports: Iterable[Report]) -> Steps:
        """Takes reports in the order in which they came.

        A connection counts as opened by the first report that names its cluster, else by its end: Envoy may report an
        opening twice, or none. What is lost between two reports is in the next one's difference. A connection without
        an id counts when it closes.
        """
        received, sent, opened = [], [], []
        resumed = 0
        for report in reports:
            name = report.connection if len(report.connection) <= _LONGEST_ID else ""
            closes = report.event == Event.CLOSE
            known = self._known.pop(name, None) if name else None
            if known is None:
                known = _Known(0, 0, opened=False, start=report.start)
                if not name and not closes:
                    known = _Known(report.received, report.sent, opened=True, start=report.start)
                elif name and report.event != Event.OPEN and report.start <= self._unheard(closes=closes):
                    known = _Known(report.received, report.sent, opened=True, start=report.start)
                    resumed += 1
            opens = not known.opened and (report.reached or closes)
            received.append(max(report.received - known.received, 0))
            sent.append(max(report.sent - known.sent, 0))
            opened.append(opens)
            if name and not closes:
                self._known[name] = _Known(
                    max(report.received, known.received), max(report.sent, known.sent), known.opened or opens,
                    known.start,
                )  # fmt: skip
                if len(self._known) > self._most:
                    self._forget()
        return Steps(received, sent, opened, resumed)

    def _unheard(self, *, closes: bool) -> int:
        """A connection that began at this instant or before may have been reported here or elsewhere already.

        Elsewhere: to a mixer before this one. A close is then still believed to be the only report, because Envoy
        sends no other unless it is told to; not so once connections were forgotten here, which had other reports.
        """
        return self._forgotten if closes else max(self._began, self._forgotten)

    def _forget(self) -> None:
        forgotten = self._known.pop(next(iter(self._known)))
        self._forgotten = max(self._forgotten, forgotten.start)

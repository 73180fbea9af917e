"""`time.add_date` as OPA 1.22 has it; the other functions of time are the engine's own."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Final
from zoneinfo import ZoneInfo

from mixer_py.policy.builtins.operands import integer, string

_NANOSECONDS: Final = 1_000_000_000
_DAY_SECONDS: Final = 86_400
_EPOCH: Final = date(1970, 1, 1).toordinal()
_CENTURIES: Final = 400
"""Years after which the calendar repeats, …"""
_CENTURIES_DAYS: Final = 146_097
"""… and the days that they have."""


def add_date(moment: object, years: object, months: object, days: object) -> int:
    """`time.add_date(ns, years, months, days)`: a day that the month does not have is one of the next month.

    The clock stays what it is in the zone of `[ns, zone]`.
    """
    nanoseconds, zone = _parse_moment(moment)
    seconds, rest = divmod(nanoseconds, _NANOSECONDS)
    day, clock = divmod(seconds + _offset(seconds, zone), _DAY_SECONDS)
    then = date.fromordinal(_EPOCH + day)
    year, month = divmod((then.year + integer(years)) * 12 + then.month - 1 + integer(months), 12)
    cycles, year = divmod(year - 1, _CENTURIES)
    first = date(year + 1, month + 1, 1).toordinal() + cycles * _CENTURIES_DAYS
    wall = (first - _EPOCH + then.day - 1 + integer(days)) * _DAY_SECONDS + clock
    # As Go: the offset that holds there if the clock were UTC's, then the one that holds at the time this makes.
    guess = _offset(wall, zone)
    result = (wall - (_offset(wall - guess, zone) if guess else 0)) * _NANOSECONDS + rest
    if not -(2**63) <= result < 2**63:
        raise ValueError("the time is outside of what nanoseconds can say")
    return result


def _parse_moment(moment: object) -> tuple[int, ZoneInfo | None]:
    if not isinstance(moment, list):
        return integer(moment), None
    nanoseconds, name = moment
    if name in {"", "UTC"}:
        return integer(nanoseconds), None
    if name == "Local":
        raise ValueError("the zone of this machine means nothing to a policy")
    return integer(nanoseconds), ZoneInfo(string(name))


def _offset(seconds: int, zone: ZoneInfo | None) -> int:
    """Seconds that the zone is ahead of UTC at a time in UTC."""
    if zone is None:
        return 0
    offset = datetime.fromtimestamp(seconds, UTC).astimezone(zone).utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0

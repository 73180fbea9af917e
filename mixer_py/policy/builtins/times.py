"""`time.add_date` and `time.parse_duration_ns` as OPA 1.22 has them; the others of time are the engine's own."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
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
_HOURS: Final = {"d": 24, "w": 7 * 24, "y": 365 * 24}
_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,
    "\u03bcs": 1_000,
    "ms": 1_000_000,
    "s": _NANOSECONDS,
    "m": 60 * _NANOSECONDS,
    "h": 3_600 * _NANOSECONDS,
}
_SEGMENT: Final = re.compile(rf"(?P<digits>[0-9]+\.?[0-9]*|\.[0-9]+)(?P<unit>{'|'.join((*_UNITS, *_HOURS))})")
_DURATION: Final = re.compile(r"[-+]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[nu\u00b5\u03bcm]s|[smhdwy]))+")


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


def parse_duration(text: object) -> int:
    """`time.parse_duration_ns(duration)`: Go's durations, and days, weeks and years of 24 hours, 7 and 365 days.

    Source of the rules: Go's time.ParseDuration, and OPA v1.22 v1/topdown/time.go, which makes hours of days first.
    """
    given = string(text)
    if given in {"0", "+0", "-0"}:
        return 0
    if _DURATION.fullmatch(given) is None or ("\u03bc" in given and any(unit in given for unit in _HOURS)):
        raise ValueError("is no duration")
    total = 0
    for segment in _SEGMENT.finditer(given):
        digits, unit = segment["digits"], segment["unit"]
        if unit in _HOURS:
            digits, unit = format(Decimal(repr(float(digits) * _HOURS[unit])), "f"), "h"
        total += _nanoseconds(digits, _UNITS[unit])
    total = -total if given.startswith("-") else total
    if not -(2**63) <= total < 2**63:
        raise ValueError("the duration is longer than nanoseconds can say")
    return total


def _nanoseconds(digits: str, unit: int) -> int:
    """As Go has it: the digits after the point count as far as 63 bits hold them."""
    whole, _, rest = digits.partition(".")
    fraction, scale = 0, 1.0
    for digit in rest:
        longer = fraction * 10 + int(digit)
        if longer > 2**63:
            break
        fraction, scale = longer, scale * 10
    return int(whole or "0") * unit + int(float(fraction) * (unit / scale))

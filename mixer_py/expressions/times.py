"""Timestamps and durations as CEL defines them; both are ints of nanoseconds. Raises as `operations.py` does."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from mixer_py.errors import ExpressionError
from mixer_py.expressions.operations import LEAST, MOST

SECOND: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST: Final = -62_135_596_800 * SECOND  # 0001-01-01T00:00:00Z, google/protobuf/timestamp.proto
_LATEST: Final = 253_402_300_800 * SECOND - 1  # 9999-12-31T23:59:59.999999999Z
_RFC3339: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_UNITS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}
_DURATION: Final = re.compile(r"[+-]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)", re.ASCII)
"""Go's time.ParseDuration, which CEL's language definition refers to."""
_DURATION_PART: Final = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_LONGEST: Final = 64
_OFFSET: Final = re.compile(r"([+-]?)(\d\d):(\d\d)", re.ASCII)


def instant(nanoseconds: int) -> int:
    """The same, within the years 1 to 9999."""
    if not _EARLIEST <= nanoseconds <= _LATEST:
        raise ExpressionError("the time is outside of the years 1 to 9999", "range")
    return nanoseconds


def of_seconds(seconds: float) -> int:
    """A duration from an attribute's value."""
    nanoseconds = seconds * SECOND
    if not LEAST < nanoseconds < MOST:
        raise ExpressionError("the duration does not fit into 64 bits of nanoseconds", "range")
    return round(nanoseconds)


def timestamp_of_text(text: str) -> int:
    """A time as RFC 3339 writes it."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ExpressionError("the string is no time as RFC 3339 writes it", "conversion")
    *fields, fraction, sign, hours, minutes = match.groups()
    try:
        moment = datetime(*map(int, fields), tzinfo=UTC)  # type: ignore[misc,arg-type]  # six fields, by the pattern
    except ValueError as error:
        raise ExpressionError("the string is no time of the calendar", "range") from error
    offset = (int(hours) * 60 + int(minutes)) * 60 if sign else 0
    if sign and (int(hours) > 23 or int(minutes) > 59):
        raise ExpressionError("the string has no offset of a time zone", "conversion")
    seconds = (moment - _EPOCH) // timedelta(seconds=1) - (-offset if sign == "-" else offset)
    return instant(seconds * SECOND + int((fraction or "").ljust(9, "0")))


def duration_of_text(text: str) -> int:
    """A duration such as `1h30m` or `-1.5s`."""
    if len(text) > _LONGEST or _DURATION.fullmatch(text) is None:
        raise ExpressionError("the string is no duration", "conversion")
    parts = _DURATION_PART.findall(text)
    nanoseconds = sum(int(Decimal(number) * _UNITS[unit]) for number, unit in parts)
    if text.startswith("-"):
        nanoseconds = -nanoseconds
    if not LEAST <= nanoseconds <= MOST:
        raise ExpressionError("the duration does not fit into 64 bits of nanoseconds", "range")
    return nanoseconds


def text_of_timestamp(nanoseconds: int) -> str:
    """A time as RFC 3339 writes it, in UTC."""
    seconds, fraction = divmod(nanoseconds, SECOND)
    moment = _EPOCH + timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + _fraction(fraction) + "Z"


def text_of_duration(nanoseconds: int) -> str:
    """A duration in seconds, as `1.5s`."""
    seconds, fraction = divmod(abs(nanoseconds), SECOND)
    return f"{'-' if nanoseconds < 0 else ''}{seconds}{_fraction(fraction)}s"


def _fraction(nanoseconds: int) -> str:
    return f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""


def zone(name: str) -> tzinfo:
    """A time zone by its name in the IANA database, or by its offset, as `-02:30`.

    Raises:
        ValueError: there is none.
    """
    match = _OFFSET.fullmatch(name)
    if match is not None:
        offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
        return timezone(-offset if match[1] == "-" else offset)
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError) as error:  # what a name may be that is also a path
        raise ValueError(f"{name!r} is no time zone") from error


def _local(nanoseconds: int, where: tzinfo) -> datetime:
    moment = _EPOCH + timedelta(seconds=nanoseconds // SECOND)
    try:
        return moment.astimezone(where)
    except OverflowError as error:
        raise ExpressionError("the time is outside of the years 1 to 9999 in that zone", "range") from error


def get_full_year(nanoseconds: int, where: tzinfo) -> int:
    """The year."""
    return _local(nanoseconds, where).year


def get_month(nanoseconds: int, where: tzinfo) -> int:
    """The month, counted from 0."""
    return _local(nanoseconds, where).month - 1


def get_date(nanoseconds: int, where: tzinfo) -> int:
    """The day of the month, counted from 1."""
    return _local(nanoseconds, where).day


def get_day_of_month(nanoseconds: int, where: tzinfo) -> int:
    """The day of the month, counted from 0."""
    return _local(nanoseconds, where).day - 1


def get_day_of_week(nanoseconds: int, where: tzinfo) -> int:
    """The day of the week; Sunday is 0."""
    return _local(nanoseconds, where).isoweekday() % 7


def get_day_of_year(nanoseconds: int, where: tzinfo) -> int:
    """The day of the year, counted from 0."""
    return _local(nanoseconds, where).timetuple().tm_yday - 1


def get_hours(nanoseconds: int, where: tzinfo) -> int:
    """The hour."""
    return _local(nanoseconds, where).hour


def get_minutes(nanoseconds: int, where: tzinfo) -> int:
    """The minute."""
    return _local(nanoseconds, where).minute


def get_seconds(nanoseconds: int, where: tzinfo) -> int:
    """The second."""
    return _local(nanoseconds, where).second


def get_milliseconds(nanoseconds: int, _where: tzinfo) -> int:
    """The milliseconds within the second."""
    return nanoseconds % SECOND // 1_000_000

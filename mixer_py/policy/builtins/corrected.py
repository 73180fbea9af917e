"""Builtins that the embedded engine has, but answers differently from OPA where it may decide who gets in.

These take their place. What they answer is what OPA 1.22 does, by its reference of builtins and by tests against it.
An exception means that OPA's is an error there, which makes the expression undefined. What still differs is listed in
docs/rego.md.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from mixer_py.policy.builtins.globs import compile_glob

_GLOBS_KEPT: Final = 512
_NANOSECONDS: Final = 1_000_000_000
_DAY_SECONDS: Final = 86_400
_EPOCH: Final = date(1970, 1, 1).toordinal()
_CENTURIES: Final = 400
"""Years after which the calendar repeats, …"""
_CENTURIES_DAYS: Final = 146_097
"""… and the days that they have."""
_PREFIX_LENGTH: Final = re.compile(r"[0-9]+")
_MAPPED: Final = 0xFFFF << 32
"""An IPv4 address as IPv6, `::ffff:0.0.0.0`, without the address."""

Range = tuple[int, int, int]
"""Address, prefix length, and number of bits."""


def add_corrected(engine: Any) -> None:  # noqa: ANN401 (regorus has no types)
    """Put the functions of this module in the place of an engine's own."""
    for name, arity, function in _corrected():
        engine.add_extension(name, arity, function)


def _corrected() -> tuple[tuple[str, int, Callable[..., object]], ...]:
    return (
        ("glob.match", 3, glob_matcher()),
        ("indexof", 2, indexof),
        ("lower", 1, lower),
        ("net.cidr_contains", 2, cidr_contains),
        ("net.cidr_is_valid", 1, cidr_is_valid),
        ("strings.count", 2, count_text),
        ("strings.replace_n", 2, replace_n),
        ("time.add_date", 4, add_date),
        ("upper", 1, upper),
    )


def glob_matcher() -> Callable[[object, object, object], bool]:
    """`glob.match(pattern, delimiters, match)` with a memory of its own; no delimiters are null, `[]` means a dot."""
    compiled = lru_cache(maxsize=_GLOBS_KEPT)(compile_glob)

    def glob_match(pattern: object, delimiters: object, text: object) -> bool:
        if delimiters is None:
            separators = ""
        elif isinstance(delimiters, list) and all(isinstance(one, str) and len(one) == 1 for one in delimiters):
            separators = "".join(delimiters) or "."
        else:
            raise TypeError("delimiters are an array of characters, or null")
        return compiled(_string(pattern), separators)(_string(text))

    return glob_match


def lower(text: object) -> str:
    """`lower(x)`: one letter to one, as Go's unicode.ToLower."""
    string = _string(text)
    # Only the capital I with a dot has two letters as its small one; single letters know of no final sigma.
    return string.lower() if string.isascii() else "".join("i" if c == "İ" else c.lower() for c in string)


def upper(text: object) -> str:
    """`upper(x)`: one letter to one, as Go's unicode.ToUpper."""
    string = _string(text)
    return string.upper() if string.isascii() else "".join(map(_upper_letter, string))


def _upper_letter(letter: str) -> str:
    # Where Unicode's full mapping has several letters, its simple one is the title case, or there is none.
    return next((one for one in (letter.upper(), letter.title()) if len(one) == 1), letter)


def indexof(haystack: object, needle: object) -> int:
    """`indexof(haystack, needle)` in characters; an empty needle is an error."""
    if not _string(needle):
        raise ValueError("nothing to look for")
    return _string(haystack).find(_string(needle))


def count_text(text: object, part: object) -> int:
    """`strings.count(search, substring)`: occurrences that do not overlap."""
    return _string(text).count(_string(part))


def replace_n(replacements: object, text: object) -> str:
    """`strings.replace_n(patterns, value)`: in one pass, so that what was put in stays; sorted patterns go first.

    An empty pattern, which OPA finds between all characters, is refused.
    """
    if not isinstance(replacements, Mapping) or "" in replacements:
        raise TypeError("replacements are an object of texts by texts")
    by_text = {_string(old): _string(new) for old, new in replacements.items()}
    if not by_text:
        return _string(text)
    return re.sub("|".join(map(re.escape, sorted(by_text))), lambda found: by_text[found[0]], _string(text))


def cidr_contains(cidr: object, address_or_cidr: object) -> bool:
    """`net.cidr_contains(cidr, cidr_or_ip)`; an IPv4 address written as IPv6 is an IPv4 address."""
    outer, inner = _parse_range(_string(cidr)), _string(address_or_cidr)
    if "/" not in inner:
        address, _ = _parse_address(inner)
        return _is_in(address, outer)
    first, prefix, bits = _parse_range(inner)
    return outer[1] <= prefix and _is_in(first + _MAPPED if bits == 32 else first, outer)


def cidr_is_valid(cidr: object) -> bool:
    """`net.cidr_is_valid(cidr)`; what is no text is no CIDR."""
    try:
        _parse_range(_string(cidr))
    except (TypeError, ValueError):
        return False
    return True


def _parse_address(text: str) -> tuple[int, int]:
    """The address as one of IPv6, and the number of bits that it was written in."""
    if "%" in text:
        raise ValueError("an address has no zone")
    address = ipaddress.ip_address(text)
    return (int(address) + _MAPPED, 32) if address.version == 4 else (int(address), 128)


def _parse_range(text: str) -> Range:
    """The range's first address; a range of IPv4 addresses written as IPv6 is one of IPv4."""
    name, _, length = text.partition("/")
    address, bits = _parse_address(name)
    if not _PREFIX_LENGTH.fullmatch(length) or int(length) > bits:
        raise ValueError("no prefix length")
    prefix = int(length) + 128 - bits
    first = address >> (128 - prefix) << (128 - prefix)
    if prefix >= 96 and first >> 32 == 0xFFFF:
        return first - _MAPPED, prefix - 96, 32
    return first, prefix, 128


def _is_in(address: int, cidr: Range) -> bool:
    first, prefix, bits = cidr
    if (address >> 32 == 0xFFFF) != (bits == 32):
        return False
    number = address - _MAPPED if bits == 32 else address
    return number >> (bits - prefix) == first >> (bits - prefix)


def add_date(moment: object, years: object, months: object, days: object) -> int:
    """`time.add_date(ns, years, months, days)`: a day that the month does not have is one of the next month.

    The clock stays what it is in the zone of `[ns, zone]`.
    """
    nanoseconds, zone = _parse_moment(moment)
    seconds, rest = divmod(nanoseconds, _NANOSECONDS)
    day, clock = divmod(seconds + _offset(seconds, zone), _DAY_SECONDS)
    then = date.fromordinal(_EPOCH + day)
    year, month = divmod((then.year + _integer(years)) * 12 + then.month - 1 + _integer(months), 12)
    cycles, year = divmod(year - 1, _CENTURIES)
    first = date(year + 1, month + 1, 1).toordinal() + cycles * _CENTURIES_DAYS
    wall = (first - _EPOCH + then.day - 1 + _integer(days)) * _DAY_SECONDS + clock
    # As Go: the offset that holds there if the clock were UTC's, then the one that holds at the time this makes.
    guess = _offset(wall, zone)
    result = (wall - (_offset(wall - guess, zone) if guess else 0)) * _NANOSECONDS + rest
    if not -(2**63) <= result < 2**63:
        raise ValueError("the time is outside of what nanoseconds can say")
    return result


def _parse_moment(moment: object) -> tuple[int, ZoneInfo | None]:
    if not isinstance(moment, list):
        return _integer(moment), None
    nanoseconds, name = moment
    if name in {"", "UTC"}:
        return _integer(nanoseconds), None
    if name == "Local":
        raise ValueError("the zone of this machine means nothing to a policy")
    return _integer(nanoseconds), ZoneInfo(_string(name))


def _offset(seconds: int, zone: ZoneInfo | None) -> int:
    """Seconds that the zone is ahead of UTC at a time in UTC."""
    if zone is None:
        return 0
    offset = datetime.fromtimestamp(seconds, UTC).astimezone(zone).utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("must be a string")
    return value


def _integer(value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("must be an integer")
    return value

"""`net.cidr_*` as OPA 1.22 has them: addresses and ranges of them.

An IPv4 address written as IPv6 is an IPv4 address. What a set of arrays holds does not come through to Python, so that
`net.cidr_contains_matches` of such a set is an error.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from mixer_py.policy.builtins.operands import string

_PREFIX_LENGTH: Final = re.compile(r"[0-9]+")
_MAPPED: Final = 0xFFFF << 32
"""An IPv4 address as IPv6, `::ffff:0.0.0.0`, without the address."""
_CLASSES: Final = ((0x80, 8), (0xC0, 16), (0x100, 24))
"""Prefix lengths of the classes of IPv4 networks, by what the first byte is less than."""

Range = tuple[int, int, int]
"""Address, prefix length, and number of bits."""


def builtins() -> tuple[tuple[str, int, Callable[..., object]], ...]:
    """Name, number of arguments, and function of each."""
    return (
        ("net.cidr_contains", 2, cidr_contains),
        ("net.cidr_contains_matches", 2, cidr_contains_matches),
        ("net.cidr_intersects", 2, cidr_intersects),
        ("net.cidr_is_valid", 1, cidr_is_valid),
        ("net.cidr_merge", 1, cidr_merge),
    )


def cidr_contains(cidr: object, address_or_cidr: object) -> bool:
    """`net.cidr_contains(cidr, cidr_or_ip)`."""
    outer, inner = _parse_range(string(cidr)), string(address_or_cidr)
    if "/" not in inner:
        address, _ = _parse_address(inner)
        return _is_in(address, outer)
    first, prefix, bits = _parse_range(inner)
    return outer[1] <= prefix and _is_in(first + _MAPPED if bits == 32 else first, outer)


def cidr_contains_matches(cidrs: object, addresses_or_cidrs: object) -> set[tuple[object, object]]:
    """`net.cidr_contains_matches(cidrs, cidrs_or_ips)`: pairs of indices, keys or members where the first contains."""
    others = list(_indexed(addresses_or_cidrs))
    return {
        (index, other_index)
        for cidr, index in _indexed(cidrs)
        for other, other_index in others
        if cidr_contains(cidr, other)
    }


def cidr_intersects(one: object, other: object) -> bool:
    """`net.cidr_intersects(cidr1, cidr2)`: whether one contains where the other starts."""
    first, second = _parse_range(string(one)), _parse_range(string(other))
    return _is_in(_start(first), second) or _is_in(_start(second), first)


def cidr_is_valid(cidr: object) -> bool:
    """`net.cidr_is_valid(cidr)`; what is no text is no CIDR."""
    try:
        _parse_range(string(cidr))
    except (TypeError, ValueError):
        return False
    return True


def cidr_merge(cidrs_or_addresses: object) -> set[str]:
    """`net.cidr_merge(cidrs_or_ips)`: the fewest ranges; an IPv4 address stands for the network of its class."""
    if not isinstance(cidrs_or_addresses, list | set | frozenset):
        raise TypeError("must be an array or a set")
    ranges = sorted((_span(string(one)) for one in cidrs_or_addresses), key=lambda span: (span[1], span[0]))
    for index in range(len(ranges) - 1, 0, -1):
        first, last, _ = ranges[index]
        lowest, highest, _ = ranges[index - 1]
        if first - (first not in {0, _MAPPED}) <= highest:
            ranges[index - 1 : index + 1] = [(min(first, lowest), last, "")]
    return {text for first, last, name in ranges for text in ([name] if name else _summarize(first, last))}


def _indexed(value: object) -> Iterator[tuple[object, object]]:
    """The range or address in each element of an operand, with what names the element."""
    if isinstance(value, str):
        yield value, value
    elif isinstance(value, list):
        yield from ((_first(one), index) for index, one in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield from ((_first(one), one) for one in value)
    elif isinstance(value, Mapping):
        yield from ((_first(one), key) for key, one in value.items())


def _first(element: object) -> object:
    if isinstance(element, list | tuple) and element:
        return element[0]
    return string(element)


def _span(text: str) -> tuple[int, int, str]:
    """First and last address of a range, as of IPv6, and how OPA writes the range."""
    if "/" in text:
        first, prefix, bits = cidr = _parse_range(text)
        start = _start(cidr)
        name = ipaddress.IPv4Address(first) if bits == 32 else ipaddress.IPv6Address(first)
    else:
        address, _ = _parse_address(text)
        if address >> 32 != 0xFFFF:
            raise ValueError("an IPv6 address needs a prefix length")
        name, bits = ipaddress.IPv4Address(address - _MAPPED), 32
        prefix = next(length for bound, length in _CLASSES if (address - _MAPPED) >> 24 < bound)
        start = address >> (32 - prefix) << (32 - prefix)
    return start, start | ((1 << (bits - prefix)) - 1), f"{name}/{prefix}"


def _summarize(first: int, last: int) -> Iterator[str]:
    if first >> 32 == last >> 32 == 0xFFFF:
        start, end = ipaddress.IPv4Address(first - _MAPPED), ipaddress.IPv4Address(last - _MAPPED)
        return map(str, ipaddress.summarize_address_range(start, end))
    return map(str, ipaddress.summarize_address_range(ipaddress.IPv6Address(first), ipaddress.IPv6Address(last)))


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


def _start(cidr: Range) -> int:
    """Its first address, as one of IPv6."""
    return cidr[0] + _MAPPED if cidr[2] == 32 else cidr[0]


def _is_in(address: int, cidr: Range) -> bool:
    first, prefix, bits = cidr
    if (address >> 32 == 0xFFFF) != (bits == 32):
        return False
    number = address - _MAPPED if bits == 32 else address
    return number >> (bits - prefix) == first >> (bits - prefix)

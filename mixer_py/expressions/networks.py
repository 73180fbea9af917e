"""Addresses and networks: `cidr("10.0.0.0/8").containsIP(source.ip)`. Source: the network extension of cel-go."""

from __future__ import annotations

import ipaddress

from mixer_py.errors import ExpressionError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def network(text: str) -> Network:
    """A network as CIDR writes it.

    Raises:
        ValueError: the text is no network.
    """
    if "/" not in text:
        raise ValueError(f"{text!r} has no length of a prefix; write it as 10.0.0.0/8")
    found = ipaddress.ip_network(text, strict=False)
    if "%" in text or text.lower().startswith("::ffff:"):
        raise ValueError(f"{text!r} has a zone, or is IPv4 written as IPv6; write the network alone")
    return found


def contains_ip(where: Network, text: str) -> bool:
    """Whether an address lies in a network; an IPv4 address written as IPv6, as `::ffff:10.0.0.1`, counts as IPv4."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise ExpressionError("the string is no IP address", "conversion") from error
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped in where
    return address in where

"""Who calls, as a verified certificate names them, and lists of those who may.

For the settings, which hold such lists, and the transports, which ask them. Not for: verifying a certificate, which
the transports' TLS does, or names of workloads in traffic (`attributes/spiffe.py`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from mixer_py.attributes import spiffe

_EVERYBODY_BELOW: Final = "/*"
# RFC 1123, 2.1 and RFC 6125, 6.4.3: labels of letters, digits, dashes (and underscores, as they occur); a certificate
# may itself be for a whole zone, and then its name begins with `*.`.
_DNS_NAME: Final = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")
# RFC 3986, 3: a scheme, and no white space behind it.
_URI: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:\S+")


@dataclass(frozen=True, slots=True)
class Names:
    """What a certificate calls its owner (RFC 5280, 4.2.1.6), by kind: an entry for one kind fits no other.

    The common name is not among them: nothing says what it is.

    Attributes:
        uris: uniform resource identifiers.
        dns: DNS names.
        addresses: IP addresses, as `ipaddress` writes them.
    """

    uris: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AllowList:
    """Who may call: names that are written out, and whole branches of SPIFFE ids.

    Attributes:
        uris: exact, but for SPIFFE ids, which stand in `spiffe_ids`.
        spiffe_ids: exact.
        branches: beginnings of SPIFFE ids, each with its final `/`.
        dns: exact, in small letters.
        addresses: exact.
    """

    uris: frozenset[str] = frozenset()
    spiffe_ids: frozenset[str] = frozenset()
    branches: tuple[str, ...] = ()
    dns: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()

    def allows(self, names: Names) -> bool:
        """Whether one of the names is on the list.

        A certificate is a SPIFFE id only when that is its only URI (X509-SVID, 2): with two of them nobody could say
        which one it is.
        """
        if not self.uris.isdisjoint(names.uris):
            return True
        if len(names.uris) == 1 and self._allows_id(names.uris[0]):
            return True
        if any(name.lower() in self.dns for name in names.dns):
            return True
        return not self.addresses.isdisjoint(names.addresses)

    def _allows_id(self, name: str) -> bool:
        if name in self.spiffe_ids:
            return True
        if not name.startswith(self.branches) or not self.branches:
            return False
        return spiffe.parse(name) is not None  # else `..` or an empty segment could leave the branch


def parse_allow_list(entries: Iterable[str]) -> AllowList:
    """The list that these entries write.

    Raises:
        ValueError: one of them is no name.
    """
    kinds: dict[str, set[str]] = {kind: set() for kind in ("uris", "spiffe_ids", "branches", "dns", "addresses")}
    for entry in entries:
        kind, name = parse_entry(entry)
        kinds[kind].add(name)
    return AllowList(
        frozenset(kinds["uris"]),
        frozenset(kinds["spiffe_ids"]),
        tuple(sorted(kinds["branches"])),
        frozenset(kinds["dns"]),
        frozenset(kinds["addresses"]),
    )


def parse_entry(entry: str) -> tuple[str, str]:
    """The kind of an entry, which is an attribute of `AllowList`, and the name as it is compared.

    Raises:
        ValueError: it is no name; the message shows one that is right.
    """
    if entry.lower().startswith(spiffe.SCHEME):
        return _parse_spiffe(entry)
    try:
        return "addresses", str(ipaddress.ip_address(entry))
    except ValueError:
        pass
    if _DNS_NAME.fullmatch(entry.lower()):
        return "dns", entry.lower()
    if "*" in entry:
        raise ValueError(
            f"{entry!r}: only a SPIFFE id may end in /*, as spiffe://cluster.local/ns/istio-system/*; write names out"
        )
    if _URI.fullmatch(entry):
        return "uris", entry
    raise ValueError(
        f"{entry!r} is no name of a certificate; write a DNS name, an IP address, a URI, or a SPIFFE id as"
        " spiffe://cluster.local/ns/istio-system/sa/gateway"
    )


def _parse_spiffe(entry: str) -> tuple[str, str]:
    whole = entry.endswith(_EVERYBODY_BELOW)
    name = entry.removesuffix(_EVERYBODY_BELOW)
    if spiffe.parse(name) is None:
        raise ValueError(
            f"{entry!r} is no SPIFFE id; write spiffe://, a trust domain in small letters and a path, as"
            " spiffe://cluster.local/ns/istio-system/sa/gateway, or /* at its end for all below"
        )
    return ("branches", f"{name}/") if whole else ("spiffe_ids", name)

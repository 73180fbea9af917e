"""Whether certificates are a chain from a root to a leaf, as Go's x509 decides it.

Where Go knows more (name constraints, policies), a chain is refused: what is not understood does not hold.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import MD5, SHA1
from cryptography.x509.oid import ExtensionOID

_NANOSECONDS: Final = 1_000_000_000
_ANY: Final = 0
_SERVER: Final = 1

USAGES: Final = {
    "KeyUsageAny": 0,
    "KeyUsageServerAuth": 1,
    "KeyUsageClientAuth": 2,
    "KeyUsageCodeSigning": 3,
    "KeyUsageEmailProtection": 4,
    "KeyUsageIPSECEndSystem": 5,
    "KeyUsageIPSECTunnel": 6,
    "KeyUsageIPSECUser": 7,
    "KeyUsageTimeStamping": 8,
    "KeyUsageOCSPSigning": 9,
    "KeyUsageMicrosoftServerGatedCrypto": 10,
    "KeyUsageNetscapeServerGatedCrypto": 11,
    "KeyUsageMicrosoftCommercialCodeSigning": 12,
    "KeyUsageMicrosoftKernelCodeSigning": 13,
    "2.5.29.37.0": 0,
    **{f"1.3.6.1.5.5.7.3.{number}": number for number in range(1, 10)},
    "1.3.6.1.4.1.311.10.3.3": 10,
    "2.16.840.1.113730.4.1": 11,
    "1.3.6.1.4.1.311.2.1.22": 12,
    "1.3.6.1.4.1.311.61.1.1": 13,
}
"""Go's numbers of what a key may be used for, by OPA's names and by object identifier."""

_UNDERSTOOD: Final = frozenset(
    {
        ExtensionOID.KEY_USAGE,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
        ExtensionOID.CERTIFICATE_POLICIES,
    }
)


@dataclass(frozen=True, slots=True)
class Options:
    """What the leaf must be good for.

    Attributes:
        name: a host name or address that it must carry; empty for any.
        moment: nanoseconds since 1970; None is now.
        usages: numbers of which one must be allowed along the chain; empty for a server.
    """

    name: str = ""
    moment: int | None = None
    usages: frozenset[int] = frozenset()


def verify_chain(certificates: Sequence[x509.Certificate], options: Options) -> list[x509.Certificate]:
    """The chain from the leaf, which is the last one, to the root, which is the first.

    Raises:
        ValueError: there is none.
    """
    if len(certificates) < 2:
        raise ValueError("no chain has less than two certificates")
    root, *between, leaf = certificates
    nanoseconds = time.time_ns() if options.moment is None else options.moment
    moment = datetime.fromtimestamp(nanoseconds // _NANOSECONDS, UTC)
    if options.name and not _carries(leaf, options.name):
        raise ValueError("another name")
    for chain in _chains([leaf], root, between, moment):
        if _may_be_used(chain, options.usages or frozenset({_SERVER})):
            return chain
    raise ValueError("no chain")


def _chains(
    chain: list[x509.Certificate], root: x509.Certificate, between: Sequence[x509.Certificate], moment: datetime
) -> Iterator[list[x509.Certificate]]:
    last = chain[-1]
    if not _is_good(last, moment, len(chain) - 1):
        return
    if last == root:
        yield chain
        return
    if _issued(root, last) and _is_good(root, moment, max(len(chain), 1)):
        yield [*chain, root]
    for candidate in between:
        if candidate not in chain and _issued(candidate, last):
            yield from _chains([*chain, candidate], root, between, moment)


def _is_good(certificate: x509.Certificate, moment: datetime, below: int) -> bool:
    """Whether it holds at that time, is understood, and may have that many certificates below it."""
    if not certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc:
        return False
    found = {extension.oid: extension for extension in certificate.extensions}
    if ExtensionOID.NAME_CONSTRAINTS in found or any(
        one.critical and oid not in _UNDERSTOOD for oid, one in found.items()
    ):
        return False
    if below == 0:
        return True
    basic = found.get(ExtensionOID.BASIC_CONSTRAINTS)
    if basic is None:
        return certificate.version is not x509.Version.v3
    limits = basic.value
    if not isinstance(limits, x509.BasicConstraints) or not limits.ca:
        return False
    return limits.path_length is None or below - 1 <= limits.path_length


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    usage = next((one.value for one in issuer.extensions if isinstance(one.value, x509.KeyUsage)), None)
    if usage is not None and not usage.key_cert_sign:
        return False
    if isinstance(certificate.signature_hash_algorithm, MD5 | SHA1):
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return True


def _may_be_used(chain: Sequence[x509.Certificate], wanted: frozenset[int]) -> bool:
    """Whether one of the uses is allowed by every certificate of the chain that names uses."""
    if _ANY in wanted:
        return True
    for certificate in chain:
        usages = next(
            (one.value for one in certificate.extensions if isinstance(one.value, x509.ExtendedKeyUsage)), None
        )
        if usages is None:
            continue
        allowed = {USAGES.get(oid.dotted_string) for oid in usages}
        if _ANY not in allowed:
            wanted &= allowed
    return bool(wanted)


def _carries(certificate: x509.Certificate, name: str) -> bool:
    names = next(
        (one.value for one in certificate.extensions if isinstance(one.value, x509.SubjectAlternativeName)), None
    )
    if names is None:
        return False
    literal = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    try:
        address = ipaddress.ip_address(literal)
    except ValueError:
        labels = name.lower().removesuffix(".").split(".")
        return any(_matches(one.lower(), labels) for one in names.get_values_for_type(x509.DNSName))
    return address in names.get_values_for_type(x509.IPAddress)


def _matches(pattern: str, labels: Sequence[str]) -> bool:
    own = pattern.removesuffix(".").split(".")
    if len(own) != len(labels) or not all(labels) or not all(own):
        return False
    return (own[0] == "*" or own[0] == labels[0]) and own[1:] == list(labels[1:])

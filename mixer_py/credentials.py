"""What a listener shows of itself and whom it believes, in memory, and what a certificate says.

For runtime, which reads the files, and the transports, which use what it read. Not for: reading files
(`runtime/certificates.py`), or who may call (`peers.py`).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mixer_py.peers import Names

if TYPE_CHECKING:
    from cryptography import x509


@dataclass(frozen=True, slots=True)
class Credentials:
    """PEM, as TLS libraries take it.

    Attributes:
        certificate: the listener's own, and behind it those between it and its root.
        key: its private key.
        client_ca: the authorities whose certificates callers may show; None when callers show none.
    """

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """Whose certificate a caller has shown.

    Attributes:
        names: what it calls its owner.
        expires: seconds since the epoch after which it says nothing any more.
    """

    names: Names
    expires: float


def peer_of(certificate: bytes) -> Peer:
    """What a certificate that was verified says (PEM, the first in it).

    Raises:
        ValueError: it cannot be read, or its names cannot.
    """
    from cryptography import x509  # noqa: PLC0415 (7 MiB that listeners without certificates do without)

    read = x509.load_pem_x509_certificate(certificate)
    try:
        extension = read.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        names = Names()
    else:
        names = names_of(extension.value)
    return Peer(names, read.not_valid_after_utc.timestamp())


def names_of(alternatives: x509.SubjectAlternativeName) -> Names:
    """The names of the kinds that lists of peers know; an address that is a network is none."""
    from cryptography import x509  # noqa: PLC0415 (as above)

    addresses = alternatives.get_values_for_type(x509.IPAddress)
    return Names(
        tuple(alternatives.get_values_for_type(x509.UniformResourceIdentifier)),
        tuple(alternatives.get_values_for_type(x509.DNSName)),
        tuple(str(one) for one in addresses if isinstance(one, (ipaddress.IPv4Address, ipaddress.IPv6Address))),
    )

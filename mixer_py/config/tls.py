"""Settings of TLS: what a listener shows of itself, whose certificates it believes, and who may call.

Not for: reading the files that are named here (`runtime/certificates.py`), or judging a caller (`peers.py`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from mixer_py.peers import AllowList, parse_allow_list, parse_entry
from mixer_py.settings import LocalPath, Settings

ServiceName = Literal["ext_authz", "rate_limit", "access_log", "health", "reflection"]


def _peer(entry: str) -> str:
    parse_entry(entry)
    return entry


def _somebody(entries: tuple[str, ...]) -> tuple[str, ...]:
    if not entries:
        raise ValueError("an empty list would let nobody in; name somebody, or leave the key out")
    return entries


Peers = Annotated[tuple[Annotated[str, AfterValidator(_peer)], ...], AfterValidator(_somebody)]
"""Names in certificates of those who may call: never nobody, which would read like everybody."""


class TlsSettings(Settings):
    """TLS of a listener. What a listener's own leaves out is taken from `server.tls`."""

    certificate: LocalPath | None = None
    """PEM file with the certificate that callers see, and behind it those of the authorities between it and their
    root. When it or another of these files changes, new connections get what is new; no call is lost."""
    key: LocalPath | None = None
    """PEM file with its private key, without a password."""
    client_ca: LocalPath | None = None
    """PEM file with the authorities whose certificates callers may show. With it, a caller without such a certificate
    is not connected; without it, everybody who reaches the port may call, and nobody is authenticated."""
    allow: Peers | None = None
    """Who of them may call, by the names in their certificates: DNS names, IP addresses, URIs and SPIFFE ids, exact;
    `spiffe://cluster.local/ns/istio-system/*` is everybody below. Left out, each that `client_ca` vouches for."""
    services: dict[ServiceName, Peers] = Field(default_factory=dict)
    """Services for which another list holds instead of `allow`; access logs are worth one, since each of their entries
    becomes a row."""

    def over(self, defaults: TlsSettings | None) -> TlsSettings:
        """These, and from `defaults` what they leave out."""
        if defaults is None:
            return self
        return defaults.model_copy(update={name: getattr(self, name) for name in self.model_fields_set})

    def allowed(self, service: ServiceName) -> AllowList | None:
        """The list that holds for a service; None for everybody whom `client_ca` vouches for."""
        entries = self.services.get(service, self.allow)
        return None if entries is None else parse_allow_list(entries)

    def fault(self) -> str:
        """What does not fit together in the whole of a listener's settings; empty when all does."""
        for given, lacking in (("certificate", "key"), ("key", "certificate")):
            if getattr(self, lacking) is None:
                return f"TLS needs a {lacking}" + (f" to its {given}" if getattr(self, given) is not None else "")
        if self.client_ca is None and (self.allow or self.services):
            return "who calls is only known with a client_ca; name one, or leave allow and services out"
        return ""

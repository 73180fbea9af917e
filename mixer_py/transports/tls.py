"""TLS of one listener of `grpcio`: what it shows to each new connection, and which callers may call what.

gRPC's core speaks TLS: 1.2 and up, with its own cipher suites, and it ends a handshake in which a caller shows no
certificate of `client_ca`. What it leaves to us: who of those whose certificate is good may call a service, and
whether it is still good. A session that was resumed is as good as its first handshake, for days, and so is a connection
that lives; the certificate's own end is therefore looked at with each call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, cast

import grpc
import structlog

from mixer_py.credentials import Credentials, peer_of
from mixer_py.errors import PermissionDeniedError
from mixer_py.instruments import Clock, Registry
from mixer_py.peers import AllowList

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[bytes, bytes]

REASONS = ("not_allowed", "expired", "unreadable")
"""Why a caller with a good handshake is refused."""
_CERTIFICATE = "x509_pem_cert"
"""A caller's own certificate among a connection's properties (grpc/grpc include/grpc/grpc_security_constants.h)."""
_MOST_KNOWN = 1024
"""Certificates that are remembered; more than that start afresh."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A certificate that has called before.

    Attributes:
        expires: seconds since the epoch until which it is good.
        refused: the services that its owner may not call.
    """

    expires: float
    refused: frozenset[str]


class ListenerTls:
    """TLS of one listener."""

    def __init__(
        self,
        address: str,
        credentials: Credentials,
        allowed: Mapping[str, AllowList | None],
        registry: Registry,
        clock: Clock,
    ) -> None:
        """Prepares it.

        Args:
            address: of the listener, for counters and logs.
            credentials: to begin with.
            allowed: who may call each service that the listener has; None for everybody whom `client_ca` vouches for.
            registry: gets `mixer_peers_refused_total`.
            clock: for the end of certificates, by the wall.
        """
        self._clock = clock
        self._log = structlog.get_logger("transports.tls").bind(address=address)
        self.authenticates = credentials.client_ca is not None
        """Whether callers show certificates; for the life of the listener."""
        self._credentials = credentials
        self._fresh: grpc.ServerCertificateConfiguration | None = None
        self._allowed = dict(allowed)
        self._known: dict[bytes, _Known] = {}
        refused = registry.counter(
            "mixer_peers_refused_total",
            "Calls of peers with a verified certificate that were refused: their names are not allowed, it has "
            "expired since, or it cannot be read.",
            ("listener", "service", "reason"),
        )
        self._refused = {
            service: {reason: refused.labels(address, service, reason) for reason in REASONS} for service in allowed
        }

    def server_credentials(self) -> grpc.ServerCredentials:
        """What gRPC needs to bind a port."""
        first = _configuration(self._credentials)
        fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", self._take_fresh)  # None is no change
        return grpc.dynamic_ssl_server_credentials(first, fetch, self.authenticates)

    def renew(self, credentials: Credentials, allowed: Mapping[str, AllowList | None]) -> None:
        """Shows these to new connections, and judges every call from now on by these lists.

        Connections that there are stay: their keys are agreed on, and their callers are judged anew.
        """
        self._allowed = dict(allowed)
        self._known = {}
        if credentials != self._credentials:
            self._credentials = credentials
            self._fresh = _configuration(credentials)

    def judge(self, service: str, context: Context) -> bool:
        """Whether the caller of a service is authenticated, as nobody is without `client_ca`.

        Raises:
            PermissionDeniedError: it may not call it.
        """
        if not self.authenticates:
            return False
        shown = context.auth_context().get(_CERTIFICATE)
        certificate = next(iter(shown)) if shown else b""
        known = self._known.get(certificate)
        if known is None:
            try:
                known = self._learn(certificate)
            except ValueError:  # TLS libraries read some that others do not
                self._refuse(service, "unreadable", "its certificate cannot be read")
        if known.expires <= self._clock.wall():
            self._refuse(service, "expired", "its certificate has expired")
        if service in known.refused:
            self._refuse(service, "not_allowed", "no name in its certificate is allowed (server.tls.allow)")
        return True

    def _take_fresh(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by a thread of gRPC for each new connection; what it gets once holds from then on."""
        fresh, self._fresh = self._fresh, None
        return fresh

    def _learn(self, certificate: bytes) -> _Known:
        peer = peer_of(certificate)
        refused = frozenset(
            service
            for service, allowed in self._allowed.items()
            if allowed is not None and not allowed.allows(peer.names)
        )
        if refused:
            self._log.warning(
                "a peer may not call all of this listener",
                way_out="add it to server.tls.allow, if it should; runbook MixerPeersRefused",
                uris=peer.names.uris,
                dns=peer.names.dns,
                addresses=peer.names.addresses,
                refused=sorted(refused),
            )
        if len(self._known) >= _MOST_KNOWN:
            self._known = {}
        known = self._known[certificate] = _Known(peer.expires, refused)
        return known

    def _refuse(self, service: str, reason: str, message: str) -> NoReturn:
        self._refused[service][reason].add()
        raise PermissionDeniedError(f"this peer may not call {service} here: {message}")


def _configuration(credentials: Credentials) -> grpc.ServerCertificateConfiguration:
    pair = (credentials.key, credentials.certificate)
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=credentials.client_ca)

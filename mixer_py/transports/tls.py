"""TLS of one listener: what it shows to each new connection, and which callers may call what.

BoringSSL, in gRPC's core or in Envoy, speaks TLS: 1.2 and up, and it ends a handshake in which a caller shows no
certificate of `client_ca`. What it leaves to us: who of those whose certificate is good may call a service, and
whether it is still good. A session that was resumed is as good as its first handshake, for days, and so is a connection
that lives; the certificate's own end is therefore looked at with each call. Not for: shaking hands, which
`grpcio_tls.py` and `envoy/resources.py` let the two do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

import structlog

from mixer_py.credentials import Credentials, peer_of
from mixer_py.errors import PermissionDeniedError
from mixer_py.instruments import Clock, Registry
from mixer_py.peers import AllowList

REASONS = ("not_allowed", "expired", "unreadable")
"""Why a caller with a good handshake is refused."""
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
    """TLS of one listener.

    Attributes:
        authenticates: callers show certificates; for the life of the listener.
        credentials: what new connections see.
        registry: of its counters, and those of a transport about its handshakes.
    """

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
        self.registry = registry
        self._log = structlog.get_logger("transports.tls").bind(address=address)
        self.authenticates = credentials.client_ca is not None
        self.credentials = credentials
        self._show: Callable[[Credentials], None] | None = None
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

    def shown_by(self, show: Callable[[Credentials], None]) -> None:
        """Names who shows other credentials to new connections from then on, where `renew` brings such."""
        self._show = show

    def renew(self, credentials: Credentials, allowed: Mapping[str, AllowList | None]) -> None:
        """Shows these to new connections, and judges every call from now on by these lists.

        Connections that there are stay: their keys are agreed on, and their callers are judged anew.

        Raises:
            ProcessError: they cannot be shown; what was shown before still is.
        """
        self._allowed = dict(allowed)
        self._known = {}
        if credentials != self.credentials:
            if self._show is not None:
                self._show(credentials)
            self.credentials = credentials

    def judge(self, service: str, certificate: bytes) -> bool:
        """Whether the caller of a service is authenticated, as nobody is without `client_ca`.

        Args:
            service: as the settings call it.
            certificate: the caller's own, verified, in PEM; empty when there is none.

        Raises:
            PermissionDeniedError: it may not call it.
        """
        if not self.authenticates:
            return False
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

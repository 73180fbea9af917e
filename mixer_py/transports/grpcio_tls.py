"""TLS as gRPC's core speaks it at one listener: what it shows to each new connection, and whose calls come in by it.

Not for: who may call, which `tls.py` judges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import grpc

from mixer_py.credentials import Credentials
from mixer_py.transports.tls import ListenerTls

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[bytes, bytes]

_CERTIFICATE = "x509_pem_cert"
"""A caller's own certificate among a connection's properties (grpc/grpc include/grpc/grpc_security_constants.h)."""


class GrpcioTls:
    """TLS of one listener of grpcio."""

    def __init__(self, tls: ListenerTls) -> None:
        self._tls = tls
        self._fresh: grpc.ServerCertificateConfiguration | None = None
        tls.shown_by(self._show)

    def server_credentials(self) -> grpc.ServerCredentials:
        """What gRPC needs to bind a port."""
        first = _configuration(self._tls.credentials)
        fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", self._take_fresh)  # None is no change
        return grpc.dynamic_ssl_server_credentials(first, fetch, self._tls.authenticates)

    def judge(self, service: str, context: Context) -> bool:
        """Whether the caller of a service is authenticated.

        Raises:
            PermissionDeniedError: it may not call it.
        """
        if not self._tls.authenticates:
            return False
        shown = context.auth_context().get(_CERTIFICATE)
        return self._tls.judge(service, next(iter(shown)) if shown else b"")

    def _show(self, credentials: Credentials) -> None:
        self._fresh = _configuration(credentials)

    def _take_fresh(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by a thread of gRPC for each new connection; what it gets once holds from then on."""
        fresh, self._fresh = self._fresh, None
        return fresh


def _configuration(credentials: Credentials) -> grpc.ServerCertificateConfiguration:
    pair = (credentials.key, credentials.certificate)
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=credentials.client_ca)

"""What only Envoy knows of TLS at a listener: handshakes that failed, and certificates that it did not take.

Envoy counts them, and is asked now and then. Not for: callers whose handshake was good, which `tls.py` judges.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from mixer_py.errors import ProcessError
from mixer_py.instruments import Registry
from mixer_py.transports.envoy.host import EnvoyHost

_LOOK_SECONDS: Final = 5.0
_REASONS: Final = {
    "ssl.connection_error": "protocol",
    "ssl.fail_verify_no_cert": "no_certificate",
    "ssl.fail_verify_error": "bad_certificate",
    "downstream_cx_transport_socket_connect_timeout": "timeout",
}
"""Envoy's numbers of a listener, and why a handshake failed that is counted there, each in one of them."""


class Handshakes:
    """Those of one listener."""

    def __init__(self, address: str, name: str, host: EnvoyHost, registry: Registry) -> None:
        """Prepares to ask.

        Args:
            address: of the listener, for counters and logs.
            name: what Envoy calls it.
            host: the Envoy.
            registry: gets `mixer_handshakes_failed_total` and `mixer_certificates_not_taken_total`.
        """
        failed = registry.counter(
            "mixer_handshakes_failed_total",
            "TLS handshakes that failed at listeners of the transport envoy, as Envoy counts them: plaintext or TLS "
            "below 1.2 (protocol), no certificate, one that is not good, or none in time.",
            ("listener", "reason"),
        )
        not_taken = registry.counter(
            "mixer_certificates_not_taken_total",
            "Certificates of listeners of the transport envoy that Envoy did not take; it shows the one before.",
            ("listener",),
        )
        self._host = host
        self._failed = {
            f"listener.{name}.{statistic}": (reason, failed.labels(address, reason))
            for statistic, reason in _REASONS.items()
        }
        self._not_taken = not_taken.labels(address)
        self._pattern = rf"(listener\.{name}\.({'|'.join(_REASONS)})|sds\.{name}-[a-z]+\.update_rejected)"
        self._seen: dict[str, int] = {}
        self._log = structlog.get_logger("transports.tls").bind(address=address)

    async def watch(self) -> None:
        """Looks until it is cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self.look_again()

    async def look_again(self) -> None:
        """Looks, and tells when Envoy does not answer."""
        try:
            await self.look()
        except ProcessError as error:
            self._log.warning(
                "handshakes that failed are not counted now",
                way_out="nothing, when it passes; else see how busy this worker is",
                error=str(error),
            )

    async def look(self) -> None:
        """Counts what has happened since the last look, and tells of it in one line.

        Raises:
            ProcessError: Envoy does not answer.
        """
        news = {}
        for statistic, value in (await self._host.counts(self._pattern)).items():
            more, self._seen[statistic] = value - self._seen.get(statistic, 0), value
            if more > 0:
                news[statistic] = more
        failed = {}
        for statistic, more in news.items():
            if statistic in self._failed:
                reason, counter = self._failed[statistic]
                counter.add(more)
                failed[reason] = more
            else:
                self._not_taken.add(more)
                self._log.error(
                    "Envoy did not take a certificate and shows the one before",
                    way_out="see that the files of server.tls are such as BoringSSL reads; then write them anew",
                )
        if failed:
            self._log.warning(
                "handshakes failed",
                way_out="see who connects here, and with what certificate; docs/tls.md says what the reasons mean",
                **failed,
            )

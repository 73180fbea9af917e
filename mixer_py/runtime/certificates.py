"""The certificates of the listeners that are in force: what replaces them, and what becomes of what is not good.

Not for: reading files (`certificate_files.py`), showing certificates, which the transports do, or judging callers.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric

from mixer_py.config.server import ServerSettings
from mixer_py.config.watching import local_paths
from mixer_py.credentials import Credentials
from mixer_py.errors import ConfigurationError, Fault
from mixer_py.instruments import Clock, Registry

if TYPE_CHECKING:
    from mixer_py.runtime.certificate_files import Shown


class Certificates:
    """Those that the workers show, by the addresses of the listeners.

    Attributes:
        faults: why the files, as they are now, do not replace what is in force.
    """

    def __init__(self, server: ServerSettings, registry: Registry, clock: Clock) -> None:
        """Reads all for the first time.

        Raises:
            ConfigurationError: with every fault; a listener is never without its TLS.
        """
        self._clock = clock
        self._log = structlog.get_logger("runtime")
        self._shown, faults = _read_all(server, clock.wall())
        if faults:
            raise ConfigurationError(faults)
        self.faults: tuple[Fault, ...] = ()
        self._files = frozenset(local_paths(server.tls_files))
        self._lists = _lists(server)
        self._renewals = registry.counter(
            "mixer_certificate_renewals_total",
            "Certificates of listeners whose files have changed, by whether they are shown now.",
            ("listener", "outcome"),
        )
        for address in self._shown:
            for outcome in ("renewed", "refused"):
                self._renewals.labels(address, outcome)

    @property
    def credentials(self) -> Mapping[str, Credentials]:
        """What each listener with TLS shows, by its address."""
        return {address: shown.credentials for address, shown in self._shown.items()}

    def notice(self, changed: frozenset[Path]) -> frozenset[Path]:
        """Those of the changed files that are none of a certificate."""
        return changed - self._files

    def renew(self, server: ServerSettings) -> bool:
        """Reads all again, and keeps of each listener what it had when its files are not good.

        Returns:
            Whether workers have to be told: something is new, or other peers may call.
        """
        shown, faults = _read_all(server, self._clock.wall())
        renewed = [address for address, one in shown.items() if one != self._shown[address]]
        for address in renewed:
            self._renewals.labels(address, "renewed").add()
            until = datetime.fromtimestamp(shown[address].expires, UTC).isoformat()
            self._log.info("certificate renewed", address=address, until=until)
        if faults and tuple(faults) != self.faults:
            for address in self._shown.keys() - shown.keys():
                self._renewals.labels(address, "refused").add()
            self._log.error(
                "certificate refused; the one in force stays",
                way_out="mend its files, nothing has to be restarted; runbook MixerCertificateRefused",
                faults=[str(fault) for fault in faults],
            )
        elif self.faults and not faults:
            self._log.info("certificates are good again")
        self.faults = tuple(faults)
        self._shown |= shown
        lists, self._lists = self._lists, _lists(server)
        return bool(renewed) or lists != self._lists

    def metric(self) -> Metric:
        """When what each listener shows ends."""
        expiry = GaugeMetricFamily(
            "mixer_certificate_expiry_timestamp_seconds",
            "When the first of the certificates that a listener shows expires, in seconds since the epoch.",
            labels=["listener"],
        )
        for address, shown in self._shown.items():
            expiry.add_metric([address], shown.expires)
        return expiry


def _read_all(server: ServerSettings, now: float) -> tuple[dict[str, Shown], list[Fault]]:
    """`certificate_files.read_all`, which loads what reads certificates: 7 MiB that plaintext does without."""
    if all(server.tls_of(listener) is None for listener in server.listeners):
        return {}, []
    from mixer_py.runtime.certificate_files import read_all  # noqa: PLC0415 (as above)

    return read_all(server, now)


def _lists(server: ServerSettings) -> list[object]:
    return [server.peers_of(listener) for listener in server.listeners]

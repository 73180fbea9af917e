"""What stands open at the listeners: told at the start of a mixer, and by `mixer validate`."""

from __future__ import annotations

from collections.abc import Iterator

from mixer_py.config.server import ListenerSettings, ServerSettings
from mixer_py.errors import Fault


def exposures(server: ServerSettings) -> Iterator[Fault]:
    """A warning for each listener where more may call than most people want."""
    for index, listener in enumerate(server.listeners):
        found = _exposure(server, listener)
        if found is not None:
            message, way_out = found
            yield Fault(message, field=f"server.listeners.{index}.address", way_out=way_out)


def _exposure(server: ServerSettings, listener: ListenerSettings) -> tuple[str, str] | None:
    tls, address = server.tls_of(listener), listener.address
    if tls is None:
        if address.is_loopback:
            return None
        return (
            f"{address} can be reached by other machines, without TLS and without a password",
            "set server.tls, let only Envoy reach it, by a network policy, or listen on a unix socket",
        )
    if tls.client_ca is None:
        if address.is_loopback:
            return None
        return (
            f"whoever reaches {address} may call: its TLS asks for no certificate",
            "name the authority of Envoy's certificates in client_ca",
        )
    if "access_log" in listener.service_names and tls.allowed("access_log") is None:
        return (
            f"everybody with a certificate of its client_ca may send log entries to {address}, and each becomes a row",
            "name Envoy in tls.allow, or in tls.services.access_log",
        )
    return None

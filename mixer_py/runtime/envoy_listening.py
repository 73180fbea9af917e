"""A listener of the transport `envoy`, as a worker makes it from its settings, and those of the data plane."""

from __future__ import annotations

import socket

import structlog

from mixer_py.config.address import Address
from mixer_py.config.server import ServerSettings
from mixer_py.errors import ProcessError
from mixer_py.instruments import Clock
from mixer_py.runtime.places import bindable
from mixer_py.transports import (
    Admission,
    DataPlaneListeners,
    EnvoyHost,
    EnvoyServer,
    HandlerTable,
    ListenerTls,
    ServerLimits,
)
from mixer_py.transports.envoy.resources import Manners


def envoy_server(
    address: Address,
    table: HandlerTable,
    limits: ServerLimits,
    admission: Admission,
    clock: Clock,
    host: EnvoyHost,
    sharers: int,
    tls: ListenerTls | None,
) -> EnvoyServer:
    """The listener, prepared.

    Raises:
        ProcessError: a name has no address.
    """
    places = []
    if address.is_tcp:
        try:
            found = bindable(address)
        except OSError as error:
            raise ProcessError(f"cannot listen on {address}: {error}") from error
        # Envoy asks no DNS for what it listens at.
        places = [
            (str(place[0]), address.port, family is socket.AF_INET6 and place[0] == "::") for family, place in found
        ]
    manners = Manners(
        limits.max_message_bytes, limits.max_connection_age, limits.max_streams, limits.max_metadata_bytes,
        limits.max_waiting,
    )  # fmt: skip
    return EnvoyServer(
        str(address), places, table, manners, admission, clock, host, internal=address.internal, sharers=sharers,
        tls=tls,
    )  # fmt: skip


async def let_traffic_in(settings: ServerSettings, host: EnvoyHost | None) -> DataPlaneListeners | None:
    """Opens the listeners of the data plane, when there is an answer to every check; None where it is not in here.

    Raises:
        ProcessError: Envoy does not take one.
    """
    if settings.data_plane is None or host is None:
        return None
    listeners = DataPlaneListeners(host, settings.workers * settings.data_plane.threads)
    await listeners.start()
    names = [one["name"] for one in host.data_plane]
    structlog.get_logger("runtime").info("the data plane carries traffic", listeners=names)
    return listeners

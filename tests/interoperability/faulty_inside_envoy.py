"""The faulty service inside an Envoy: what pyvoy imports there. To import it is to start it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from mixer_py.transports import EnvoyHost, EnvoyServer, HandlerTable
from mixer_py.transports.envoy.files import HostFiles
from mixer_py.transports.envoy.host import Asgi
from mixer_py.transports.envoy.inside import Inside
from mixer_py.transports.envoy.resources import Manners
from mixer_py.transports.places import UNIX
from tests.interoperability.faulty_service import (
    ADDRESS,
    CERTIFICATES,
    FOLDER,
    INSIDE,
    LIMITS,
    Faulty,
    configure_logs,
)


async def _serve(host: EnvoyHost, stop: asyncio.Event) -> int:
    configure_logs()
    faulty = Faulty()
    address = os.environ[ADDRESS]
    name, _, port = address.rpartition(":")
    places = [] if address.startswith(UNIX) else [(name, int(port), False)]
    manners = Manners(
        LIMITS.max_message_bytes, LIMITS.max_connection_age, LIMITS.max_streams, LIMITS.max_metadata_bytes,
        LIMITS.max_waiting,
    )  # fmt: skip
    table = HandlerTable(faulty.table.unary)
    tls = faulty.tls(address, os.environ[CERTIFICATES])
    server = EnvoyServer(address, places, table, manners, faulty.admission, faulty.clock, host, tls=tls)
    await server.start()
    await stop.wait()
    return 0


_INSIDE = Inside(HostFiles(Path(os.environ[FOLDER])), INSIDE, _serve)


def __getattr__(name: str) -> Asgi:
    return _INSIDE.find(name)

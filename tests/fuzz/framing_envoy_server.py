"""The listener that the target `framing_envoy` speaks to: `python -m tests.fuzz.framing_envoy_server FOLDER`.

It becomes an Envoy, which loads this module again; the listener is FOLDER's `s`. Not for: what is answered there, which
is what the target `framing` is answered, too.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from mixer_py.instruments import Registry, SystemClock
from mixer_py.runtime.control import die_with_parent
from mixer_py.services import ext_authz
from mixer_py.transports import Admission, EnvoyHost, EnvoyServer, HandlerTable
from mixer_py.transports.envoy.files import HostFiles
from mixer_py.transports.envoy.host import Asgi
from mixer_py.transports.envoy.inside import Inside
from mixer_py.transports.envoy.process import become_envoy
from mixer_py.transports.envoy.resources import Manners
from tests.fuzz.framing_server import LIMITS, Handlers

FOLDER = "TEST_FOLDER"
SOCKET = "s"


async def _serve(host: EnvoyHost, stop: asyncio.Event) -> int:
    clock = SystemClock()
    server = EnvoyServer(
        f"unix://{os.environ[FOLDER]}/{SOCKET}",
        (),
        HandlerTable({ext_authz.METHOD: Handlers().echo}),
        Manners(
            LIMITS.max_message_bytes,
            LIMITS.max_connection_age,
            LIMITS.max_streams,
            LIMITS.max_metadata_bytes,
            LIMITS.max_waiting,
        ),
        Admission(LIMITS.max_in_flight, clock, Registry()),
        clock,
        host,
    )
    await server.start()
    await stop.wait()
    return 0


if __name__ == "__main__":
    die_with_parent()
    become_envoy(
        HostFiles(Path(sys.argv[1], "files")), "tests.fuzz.framing_envoy_server", "fuzz", {FOLDER: sys.argv[1]}
    )
elif FOLDER in os.environ:  # inside Envoy
    _INSIDE = Inside(HostFiles(Path(os.environ[FOLDER], "files")), __name__, _serve)

    def __getattr__(name: str) -> Asgi:
        return _INSIDE.find(name)

"""How a worker goes: it gives way to a successor and stays for the connections that are left, or it drains and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from mixer_py.config.server import ServerSettings
from mixer_py.runtime.rooms import Rooms
from mixer_py.transports import DataPlaneListeners, Server

_REST_SECONDS: Final = 2.0
"""Of the time to drain, what is left for the logs of requests through the data plane that lasted to its end."""
_REST_SHARE: Final = 0.25
"""More than this they do not get."""


async def give_way(servers: Sequence[Server], data_plane: DataPlaneListeners | None) -> None:
    """Takes no new connections, now that a successor listens, and asks the clients of those that there are to go."""
    try:
        going = [server.give_way() for server in servers]
        if data_plane is not None:
            going.append(data_plane.give_way())
        await asyncio.gather(*going)
    except OSError as error:  # a file of Envoy's cannot be written
        structlog.get_logger("runtime").error(
            "connections to a worker that was succeeded are not asked to go",
            way_out="make room in mixer's folder; their calls are answered until they end by their age",
            error=str(error),
        )


async def drain(
    servers: Sequence[Server], data_plane: DataPlaneListeners | None, rooms: Rooms | None, settings: ServerSettings
) -> None:
    """Refuses what is new, ends what runs, writes what waits: no longer than the settings give for all together."""
    loop = asyncio.get_running_loop()
    end = loop.time() + settings.drain_timeout

    def left() -> float:
        return max(end - loop.time(), 0.0)

    if data_plane is not None:  # first, for its requests ask those that stop next
        await data_plane.stop(left() - min(_REST_SECONDS, _REST_SHARE * settings.drain_timeout))
    for server in servers:
        await server.refuse_new()
    if rooms is not None:
        streams = asyncio.create_task(rooms.drain_streams(left()))
        await asyncio.gather(streams, *(server.stop(left()) for server in servers))
        await rooms.close(settings.flush_timeout)

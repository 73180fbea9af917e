"""How a worker goes: it gives way to a successor and stays for the connections that are left, or it drains and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from mixer_py.transports import DataPlaneListeners, Server


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

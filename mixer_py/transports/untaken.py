"""Calls that gRPC's C core began and never handed over: refused above `max_waiting`, or given up while they waited.

The core ends those in threads of its own and tells nobody; but it counts every call that it begins (channelz,
grpc/proposal A14), and we count those that we take. What lies between has ended, but for what still waits.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from grpc._cython import cygrpc  # type: ignore[attr-defined]  # untyped; grpcio-channelz takes it from there, too

_LOOK_SECONDS = 1.0
_QUIET_SECONDS = 0.005
_QUIET_LOOKS = 3
"""gRPC hands waiting calls over without a pause; where so many looks in turn see none, none waits."""


class UntakenCalls:
    """Those of one server."""

    def __init__(self, most_waiting: int, taken: Callable[[], int], count: Callable[[int], None]) -> None:
        """Finds the server, which has to be the newest of this process.

        Args:
            most_waiting: how many may wait at most, of all methods together.
            taken: how many were handed over until now.
            count: takes how many more were not, and never will be.
        """
        self._most_waiting = most_waiting
        self._taken = taken
        self._count = count
        self._server = _newest_server()
        self._counted = 0

    async def look_for_ever(self) -> None:
        """Counts every second, until it is cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Counts those that are known to have ended; where some may still wait, these only once it is quiet."""
        begun = self._begun()
        between = begun - self._taken() - self._counted
        if between > self._most_waiting:
            self._add(between - self._most_waiting)
        elif between > 0 and await self._is_quiet(begun):
            self._add(between)

    async def _is_quiet(self, begun: int) -> bool:
        taken = self._taken()
        for _ in range(_QUIET_LOOKS):
            await asyncio.sleep(_QUIET_SECONDS)
            if self._taken() != taken:
                return False
        return self._begun() == begun and self._taken() == taken

    def _add(self, calls: int) -> None:
        self._counted += calls
        self._count(calls)

    def _begun(self) -> int:
        found = json.loads(cygrpc.channelz_get_server(self._server))
        return int(found["server"]["data"].get("callsStarted", 0))


def _newest_server() -> int:
    """The channelz id of the server that this process has made last; ids grow."""
    newest, is_last = 0, False
    while not is_last:
        page = json.loads(cygrpc.channelz_get_servers(newest + 1 if newest else 0))
        newest = max((int(one["ref"]["serverId"]) for one in page.get("server", ())), default=newest)
        is_last = bool(page.get("end", False))
    return newest

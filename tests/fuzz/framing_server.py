"""The listener that the target `framing` speaks to: `python -m tests.fuzz.framing_server SOCKET`.

In a process of its own, for it may have to be replaced.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator

from mixer_py.calls import Call
from mixer_py.instruments import Registry, SystemClock
from mixer_py.runtime.control import die_with_parent
from mixer_py.services import access_log, ext_authz
from mixer_py.transports import Admission, GrpcioServer, HandlerTable, ServerLimits

LIMITS = ServerLimits(
    max_message_bytes=4096,
    max_in_flight=8,
    max_connection_age=3600,
    max_connection_age_grace=5,
    max_streams=100,
    max_metadata_bytes=16 << 10,
    max_waiting=100,
)
GAVE_UP = 3
"""What it ends with when the listener can take no more calls: in a worker that is a reason to be replaced."""
HOW_MANY = b"how many calls?"


class Handlers:
    """An echo, and a count of messages; they count their calls."""

    def __init__(self) -> None:
        self._calls = 0

    async def echo(self, message: bytes, call: Call) -> bytes:
        """The message; for `HOW_MANY` the calls since that was asked before."""
        if message == HOW_MANY:
            told, self._calls = b"%d" % self._calls, 0
            return told
        self._calls += 1
        return message

    async def count(self, messages: AsyncIterator[bytes], call: Call) -> bytes:
        self._calls += 1
        return b"%d" % len([message async for message in messages])


async def main(path: str) -> None:
    clock, handlers = SystemClock(), Handlers()
    server = GrpcioServer(
        f"unix://{path}",
        HandlerTable({ext_authz.METHOD: handlers.echo}, {access_log.METHOD: handlers.count}),
        LIMITS,
        Admission(LIMITS.max_in_flight, clock, Registry()),
        clock,
        give_up=lambda: os._exit(GAVE_UP),
    )
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    die_with_parent()
    asyncio.run(main(sys.argv[1]))

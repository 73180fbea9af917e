"""A listener of the transport envoy with handlers that fail in every way: what test_envoy.py starts.

`python -m tests.transports.in_envoy FOLDER PORT` becomes an Envoy, which loads this module again.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from mixer_py.calls import Call
from mixer_py.errors import EvaluationError
from mixer_py.instruments import Registry, SystemClock
from mixer_py.transports.admission import Admission
from mixer_py.transports.envoy.answering import Event, Receive, Send
from mixer_py.transports.envoy.files import HostFiles
from mixer_py.transports.envoy.host import OWN, Asgi, EnvoyHost
from mixer_py.transports.envoy.inside import Inside
from mixer_py.transports.envoy.process import become_envoy
from mixer_py.transports.envoy.resources import Manners
from mixer_py.transports.envoy.server import EnvoyServer
from mixer_py.transports.handlers import HandlerTable

METHOD = "/test.Service/Method"
FOLDER, PORT, LIVES = "TEST_FOLDER", "TEST_PORT", "TEST_LIVES"
MOST_BYTES, MOST_CALLS, MOST_WAITING, GRACE = 3_000_000, 20, 60, 20.0


class Panic(BaseException):
    """As a native library's panic arrives."""


FAILURES = {
    "bug": KeyError,
    "panic": Panic,
    "exit": SystemExit,
    "interrupt": KeyboardInterrupt,
    "cancel": asyncio.CancelledError,
    "generator": GeneratorExit,
}


class Handler:
    """Does what a message says; keeps a book of what became of the slow ones."""

    def __init__(self, registry: Registry) -> None:
        self._book: list[str] = []
        self._refused = registry.counter("mixer_calls_refused_total", "Of Admission.", ("reason",)).labels("waiting")

    async def __call__(self, message: bytes, call: Call) -> bytes | None:
        word, _, argument = message[:100].decode("latin-1").partition(" ")
        if word in FAILURES:
            raise FAILURES[word]
        if word == "status":
            raise EvaluationError("policy says: nö, 100 %\n" + "x" * int(argument or 0))
        if word == "slow":
            return await self._slow(argument)
        if word == "die":
            asyncio.get_running_loop().call_soon(_die)
            await asyncio.sleep(60)
        if word == "book":
            return " ".join(self._book).encode()
        if word == "refused":
            return b"%d" % self._refused.value
        if word == "call":
            return f"{call.deadline is not None} {call.authenticated}".encode()
        return {"nothing": None, "text": "text"}.get(word, message)  # type: ignore[return-value]  # those are faults

    async def _slow(self, argument: str) -> bytes:
        name, _, seconds = argument.partition(" ")
        self._book.append(f"{name}:begun")
        try:
            await asyncio.sleep(float(seconds))
        except asyncio.CancelledError:
            self._book.append(f"{name}:cancelled")
            raise
        self._book.append(f"{name}:done")
        return name.encode()


def breaking(answering: Asgi) -> Asgi:
    """Fails between Python and Envoy as a call's header `break` says: `raise NAME before|after NUMBER`, of an event."""

    async def answer(scope: Event, receive: Receive, send: Send) -> None:
        order = dict(scope["headers"]).get(b"break", b"").decode()
        _, name, when, number = order.split() if order else ("", "", "", "-1")
        sent = 0

        async def broken(event: Event) -> None:
            nonlocal sent
            here = sent == int(number)
            sent += 1
            if here and when == "before":
                raise FAILURES[name]
            await send(event)
            if here:
                raise FAILURES[name]

        await answering(scope, receive, broken)

    return answer


def _die() -> None:
    raise SystemExit(0)  # outside of a call, where nobody catches it


async def serve(host: EnvoyHost, stop: asyncio.Event) -> int:
    """Listens until SIGTERM, and drains."""
    clock, port, registry = SystemClock(), int(os.environ[PORT]), Registry()
    table = HandlerTable({METHOD: Handler(registry)}, reflection=False)  # type: ignore[dict-item]  # it gives what is no bytes
    server = EnvoyServer(
        f"127.0.0.1:{port}",
        [("127.0.0.1", port, False)],
        table,
        Manners(MOST_BYTES, 600, 1000, 16 << 10, MOST_WAITING),
        Admission(MOST_CALLS, clock, registry),
        clock,
        host,
    )
    await server.start()
    await stop.wait()
    await server.refuse_new()
    await server.stop(GRACE)
    return 0


if __name__ == "__main__":
    become_envoy(
        HostFiles(Path(sys.argv[1])), "tests.transports.in_envoy", "test", {FOLDER: sys.argv[1], PORT: sys.argv[2]}
    )
elif FOLDER in os.environ:  # inside Envoy
    _INSIDE = Inside(HostFiles(Path(os.environ[FOLDER])), __name__, serve)

    def __getattr__(name: str) -> Asgi:
        return breaking(_INSIDE.find(name)) if name.startswith(OWN) else _INSIDE.find(name)

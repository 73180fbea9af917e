"""A service that fails in every way that a service can, behind each transport; a process of its own.

    python -m tests.interoperability.faulty_service grpcio ADDRESS FOLDER [CERTIFICATES]
    python -m tests.interoperability.faulty_service envoy ADDRESS FOLDER [CERTIFICATES]

The first folder is its own; where it is given another, with `CREDENTIALS`, it speaks TLS. Its unary method does what
the message says (`FAULTS`), and another tells what became of the calls.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog
import uvloop

from mixer_py.calls import Call
from mixer_py.credentials import Credentials
from mixer_py.errors import CounterStoreError, EvaluationError, InvalidRequestError
from mixer_py.instruments import Registry, SystemClock
from mixer_py.transports import Admission, GrpcioServer, HandlerTable, ListenerTls, ServerLimits
from mixer_py.transports.envoy.files import HostFiles
from mixer_py.transports.envoy.process import become_envoy

OBEY = "/mixer.test.Faulty/Obey"
TELL = "/mixer.test.Faulty/Tell"
COUNT = "/mixer.test.Faulty/Count"
INSIDE = "tests.interoperability.faulty_inside_envoy"
ADDRESS, FOLDER, CERTIFICATES = "FAULTY_ADDRESS", "FAULTY_FOLDER", "FAULTY_CERTIFICATES"
SECRET = "hunter2-in-the-message-of-an-exception"
LIMITS = ServerLimits(
    max_message_bytes=256 << 10,
    max_in_flight=400,
    max_connection_age=600,
    max_connection_age_grace=5,
    max_streams=500,
    max_metadata_bytes=16 << 10,
    max_waiting=100_000,  # more than any test sends at once: so it is never gRPC that refuses, however slow this is
)
CREDENTIALS = ("server.pem", "server.key", "authority.pem")
LONG_ANSWER = b"x" * 100_000


class NativePanic(BaseException):
    """As a panic of a native library arrives: of no class that `except Exception` catches."""


class UntellableBug(Exception):  # noqa: N818 (its name tells it from the other)
    """One that cannot even be told of."""

    def __str__(self) -> str:
        raise ValueError(SECRET)

    __repr__ = __str__


class UntellableError(EvaluationError):
    """The same of ours."""

    def __str__(self) -> str:
        raise ValueError(SECRET)


class FineError(EvaluationError):
    """One of ours that claims to be OK."""

    grpc_status = 0


def _raises(kind: type[BaseException], *arguments: object) -> Callable[[], Awaitable[Any]]:
    async def fault() -> None:
        raise kind(*arguments)

    return fault


def _answers(answer: object) -> Callable[[], Awaitable[Any]]:
    async def fault() -> object:
        return answer

    return fault


async def _overflow() -> Any:
    def deeper() -> object:
        return deeper()

    return deeper()


async def _cancel_itself() -> Any:
    waiting = asyncio.get_running_loop().create_future()
    waiting.cancel()
    return await waiting


async def _hold() -> Any:
    time.sleep(0.7)
    return b"held"


async def _sleep() -> Any:
    await asyncio.sleep(600)


FAULTS: dict[bytes, Callable[[], Awaitable[Any]]] = {
    b"error with a status": _raises(EvaluationError, "the policy said no"),
    b"error that is invalid": _raises(InvalidRequestError, "héllo\n100 %"),
    b"error of the store": _raises(CounterStoreError, "the store is away"),
    b"error that claims to be OK": _raises(FineError, "all is well"),
    b"error of endless length": _raises(EvaluationError, "x" * 100_000),
    b"error that is no text": _raises(EvaluationError, "half \ud800 of a letter"),
    b"UntellableError": _raises(UntellableError),
    b"UntellableBug": _raises(UntellableBug),
    b"KeyError": _raises(KeyError, SECRET),
    b"ExceptionGroup": _raises(ExceptionGroup, SECRET, [ValueError(SECRET)]),
    b"MemoryError": _raises(MemoryError),
    b"RecursionError": _overflow,
    b"StopAsyncIteration": _raises(StopAsyncIteration),
    b"NativePanic": _raises(NativePanic, SECRET),
    b"SystemExit": _raises(SystemExit, 0),
    b"KeyboardInterrupt": _raises(KeyboardInterrupt),
    b"GeneratorExit": _raises(GeneratorExit),
    b"CancelledError": _cancel_itself,
    b"no reply": _answers(None),
    b"a text": _answers("text"),
    b"a number": _answers(0),
    b"a part of a reply": _answers([b"a", b"b"]),
    b"hold the loop": _hold,
    b"sleep": _sleep,
    b"a long answer": _answers(LONG_ANSWER),
}


class Faulty:
    """The service, and what became of the calls to it."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.clock = SystemClock()
        self.admission = Admission(LIMITS.max_in_flight, self.clock, self.registry)
        self._told = {"started": 0, "cancelled": 0}

    def tls(self, address: str, certificates: str) -> ListenerTls | None:
        """What is spoken at its address: TLS by the files of that folder, or None without one."""
        if not certificates:
            return None
        own, key, authority = (Path(certificates, name).read_bytes() for name in CREDENTIALS)
        return ListenerTls(address, Credentials(own, key, authority), {}, self.registry, self.clock)

    @property
    def table(self) -> HandlerTable:
        """Its methods."""
        return HandlerTable({OBEY: self._obey, TELL: self._tell}, {COUNT: self._count})

    async def _obey(self, message: bytes, call: Call) -> bytes:
        self._told["started"] += 1
        fault = FAULTS.get(message)
        try:
            return message if fault is None else await fault()
        except asyncio.CancelledError:
            self._told["cancelled"] += 1
            raise

    async def _tell(self, message: bytes, call: Call) -> bytes:
        told: dict[str, float] = {**self._told, "in_flight": self.admission.in_flight - 1}
        for series, values in self.registry.read():
            told[" ".join((series.name, *(value for _, value in series.labels)))] = values[0]
        return json.dumps(told).encode()

    async def _count(self, messages: AsyncIterator[bytes], call: Call) -> bytes:
        return b"%d" % len([message async for message in messages])


async def _serve(address: str, certificates: str) -> None:
    faulty = Faulty()
    tls = faulty.tls(address, certificates)
    server = GrpcioServer(address, faulty.table, LIMITS, faulty.admission, faulty.clock, tls=tls)
    await server.start()
    await asyncio.Event().wait()


def configure_logs() -> None:
    """What failed goes to the standard output, whole."""
    structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()])


def main(arguments: list[str]) -> None:
    """Serves until it is killed."""
    transport, address, folder, *rest = arguments
    certificates = "".join(rest)
    if transport == "envoy":
        environment = {ADDRESS: address, FOLDER: folder, CERTIFICATES: certificates}
        become_envoy(HostFiles(Path(folder)), INSIDE, "faulty", environment)
    configure_logs()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(address, certificates))


if __name__ == "__main__":
    main(sys.argv[1:])

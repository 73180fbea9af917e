"""What comes over the wire and should not: nonsense, too much at once, connections that are cut or left open."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import grpc

from tests.faults.fault import Fault, While, again, lasting
from tests.faults.processes import ONE
from tests.faults.scene import Scene
from tests.parts.grpc_client import check_request, connect

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS = b"\0\0\0\4\0\0\0\0\0"
_UNNOTICED = "no call of others notices"


def _sockets(scene: Scene, count: int, stack: ExitStack) -> list[socket.socket]:
    return [
        stack.enter_context(socket.create_connection(("127.0.0.1", scene.mixer.grpc), timeout=10)) for _ in range(count)
    ]


@contextmanager
def _garbage(scene: Scene) -> Iterator[None]:
    with ExitStack() as stack:
        for number, connection in enumerate(_sockets(scene, 50, stack)):
            connection.sendall(os.urandom(2000) if number % 2 else b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        yield


@contextmanager
def _garbage_frames(scene: Scene) -> Iterator[None]:
    with ExitStack() as stack:
        for connection in _sockets(scene, 50, stack):
            connection.sendall(_PREFACE + _SETTINGS + os.urandom(500))
        yield


@contextmanager
def _left_open(scene: Scene) -> Iterator[None]:
    with ExitStack() as stack:
        for number, connection in enumerate(_sockets(scene, 200, stack)):
            if number % 2:
                connection.sendall(_PREFACE + _SETTINGS)
            else:
                connection.shutdown(socket.SHUT_WR)
        yield


def _reset(scene: Scene) -> None:
    with ExitStack() as stack:
        for connection in _sockets(scene, 20, stack):
            connection.sendall(_PREFACE + _SETTINGS)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextmanager
def _slow_readers(scene: Scene) -> Iterator[None]:
    """Streams without room for an answer: SETTINGS_INITIAL_WINDOW_SIZE 0, and pings without end."""
    no_window = b"\0\0\6\4\0\0\0\0\0" + struct.pack(">HI", 4, 0)
    ping = b"\0\0\x08\6\0\0\0\0\0" + b"12345678"
    over = threading.Event()
    with ExitStack() as stack:
        connections = _sockets(scene, 20, stack)
        for connection in connections:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            connection.setblocking(False)
            connection.send(_PREFACE + no_window)

        def send() -> None:
            while not over.wait(0.01):
                for connection in connections:
                    with suppress(OSError):  # it is full, or was closed for so many pings
                        connection.send(ping * 20)

        sending = threading.Thread(target=send)
        sending.start()
        try:
            yield
        finally:
            over.set()
            sending.join()


@contextmanager
def _many_checks(scene: Scene) -> Iterator[None]:
    """2,000 calls at once have begun."""
    calling = threading.Thread(target=_thousands, args=(scene,))
    calling.start()
    try:
        time.sleep(0.3)
        yield
    finally:
        calling.join()


def _thousands(scene: Scene) -> None:
    """2,000 calls at once, on ten connections."""
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(scene.mixer.address)) for _ in range(10)]

        def one(number: int) -> int:
            try:
                clients[number % len(clients)].check(check_request())
            except grpc.RpcError:
                return 1
            return 0

        with ThreadPoolExecutor(200) as pool:
            list(pool.map(one, range(2000)))


FAULTS = (
    Fault("nonsense at the gRPC port", ONE, _UNNOTICED, lasting(_garbage, 1.0)),
    Fault("HTTP/2 frames of nonsense", ONE, _UNNOTICED, lasting(_garbage_frames, 1.0)),
    Fault("200 connections left open or half-closed", ONE, _UNNOTICED, lasting(_left_open)),
    Fault("200 connections reset", ONE, _UNNOTICED, again(_reset, 10, 0.1)),
    Fault("clients that read nothing", ONE, _UNNOTICED, lasting(_slow_readers)),
    Fault(
        "2,000 checks at once beside the traffic", ONE, "others wait, and few fail", While(_many_checks, _thousands), 20
    ),
)

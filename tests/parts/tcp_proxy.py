"""A TCP proxy that a test makes slow, and a server that answers what a test wants: faults that no real part shows."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self


class _Listener:
    """Accepts on a port of its own, a thread for each connection, until the end of its `with`."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()
        for thread in self._threads:
            thread.join()

    def cut(self) -> None:
        """Ends every connection."""
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def serve(self, client: socket.socket) -> None:
        """Does whatever there is to do with a connection."""
        raise NotImplementedError

    def start(self, work: Callable[[], None]) -> None:
        """Does it in a thread."""
        thread = threading.Thread(target=work)
        self._threads.append(thread)
        thread.start()

    def keep(self, connection: socket.socket) -> socket.socket:
        """Ends it with the others."""
        with self._lock:
            self._open.add(connection)
        return connection

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self.keep(client)
            self.start(lambda client=client: self._served(client))

    def _served(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            self.serve(client)


class SlowProxy(_Listener):
    """Forwards to a port of 127.0.0.1.

    Attributes:
        target: the port, for connections that are made from now on.
        delay: seconds by which every answer is late.
        nonsense: what is answered instead of each answer, as long as it is not empty.
        cut_after: bytes of answers, from now on, after which their connection ends; None for no end.
    """

    def __init__(self, target: int) -> None:
        super().__init__()
        self.target = target
        self.delay = 0.0
        self.nonsense = b""
        self.cut_after: int | None = None
        self._servers: set[socket.socket] = set()
        self._resetting = False

    def reset(self) -> None:
        """Ends every connection by RST, on both sides."""
        self._resetting = True
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    one.shutdown(socket.SHUT_RD)  # sends nothing, and wakes whoever reads; closing sends RST then
        time.sleep(0.2)
        self._resetting = False

    def half_close(self) -> None:
        """Ends the way to the target on every connection; answers still come back."""
        with self._lock:
            for one in self._servers:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_WR)

    def serve(self, client: socket.socket) -> None:
        with self.keep(socket.create_connection(("127.0.0.1", self.target))) as server:
            with self._lock:
                self._servers.add(server)
            self.start(lambda: self._answers(server, client))
            try:
                while data := client.recv(1 << 16):
                    server.sendall(data)
            finally:
                with suppress(OSError):  # wakes the other thread
                    server.shutdown(socket.SHUT_RD if self._resetting else socket.SHUT_RDWR)

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        sent = 0
        with suppress(OSError):
            while data := server.recv(1 << 16):
                time.sleep(self.delay)
                if self.cut_after is None:
                    client.sendall(self.nonsense or data)
                    sent = 0
                    continue
                client.sendall(data[: self.cut_after - sent])
                sent += len(data)
                if sent >= self.cut_after:
                    break
            client.shutdown(socket.SHUT_RD if self._resetting else socket.SHUT_RDWR)


class FakeServer(_Listener):
    """Takes the charge script, and answers each charge with `answer`.

    Attributes:
        answer: bytes; empty closes the connection.
        welcome: what loading the script is answered with.
    """

    def __init__(self, answer: bytes, welcome: bytes = b"$40\r\n" + b"0" * 40 + b"\r\n") -> None:
        super().__init__()
        self.answer = answer
        self.welcome = welcome

    def serve(self, client: socket.socket) -> None:
        while data := client.recv(1 << 20):
            if b"EVAL" not in data.split(b"\r\n")[2]:
                while not data.rstrip().endswith(b"return table.concat(tallies) .. table.concat(faults)"):
                    data = client.recv(1 << 20)
                client.sendall(self.welcome)
            elif data.split(b"\r\n")[6] == b"0":
                client.sendall(b"$0\r\n\r\n")
            elif self.answer:
                client.sendall(self.answer)
            else:
                return

"""The place of a listener, shared with other workers, and taken over by successors while the predecessors answer.

Workers share a TCP port (SO_REUSEPORT): the kernel spreads new connections over them by a hash of the addresses. When
successors take over, each listens beside them, and the kernel is told to give all new connections to the first
successor (SO_ATTACH_REUSEPORT_CBPF); then the predecessors stop to listen, once none are in their queues. A unix
socket is bound under a passing name and then renamed over the one before: gRPC removes the name that it bound when it
stops, which must not be the one that a successor listens on. Not for: whether somebody else has the place; any other
mixer keeps off until all workers of this one have ended (`runtime/places.py`), and cannot come between two steps here.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import secrets
import select
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mixer_py.errors import ProcessError

UNIX = "unix://"
_ATTACH_CBPF = 51  # SO_ATTACH_REUSEPORT_CBPF, socket(7); Python has no name for it
_RETURN = 0x06
"""The classic BPF instruction `ret #k`: the one of those that listen on the port that came after `k` others."""
_QUIET_SECONDS: Final = 1.0
"""Who began to connect before a successor listened is in the queue by then, also over a slow network."""
_LONGEST_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 0.02


class Place:
    """An address as one process takes it.

    Attributes:
        bound: the address to bind.
    """

    def __init__(self, address: str, sharers: int = 1) -> None:
        """An address that nobody has taken yet.

        Args:
            address: `host:port` or `unix:///path`.
            sharers: how many processes listen there at a time, but for takeovers.
        """
        self._sharers = sharers
        self._path = Path(address.removeprefix(UNIX)) if address.startswith(UNIX) else None
        self._passing = (
            None if self._path is None else self._path.with_name(f"{self._path.name}.{secrets.token_hex(2)}")
        )
        self.bound = address if self._passing is None else f"{UNIX}{self._passing}"
        self._published: int | None = None

    def publish(self) -> None:
        """What is bound is now found at the address, instead of what was there.

        Raises:
            ProcessError: the socket cannot be put there.
        """
        if self._path is None or self._passing is None:
            self._prefer()
            return
        try:
            # Open as long as we have the name: the number of what is open is given to no other file.
            self._published = os.open(self._passing, os.O_PATH | os.O_CLOEXEC)
            self._passing.replace(self._path)
        except OSError as error:
            raise ProcessError(f"cannot listen on {UNIX}{self._path}: {error.strerror}") from error

    async def until_empty(self) -> None:
        """Returns when all have been accepted who were about to connect here, now that a successor has published.

        After a while at the latest: not every kernel can give all new connections to the successor.
        """
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            queues = select.poll()
            for listening in _listening_at(self.bound):
                queues.register(stack.enter_context(contextlib.closing(listening)), select.POLLIN)
            end = loop.time() + _LONGEST_SECONDS
            quiet = loop.time() + _QUIET_SECONDS
            while (now := loop.time()) < min(quiet, end):
                if queues.poll(0):
                    quiet = now + _QUIET_SECONDS
                await asyncio.sleep(_PAUSE_SECONDS)

    def stop_listening(self) -> None:
        """Takes no new connections from now on; those that there are stay.

        A unix socket gets none any more since its successor has its name.
        """
        if self._path is None:
            for listening in _listening_at(self.bound):
                with contextlib.closing(listening), contextlib.suppress(OSError):  # a second name of one shut already
                    listening.shutdown(socket.SHUT_RDWR)

    def _prefer(self) -> None:
        """Lets the kernel give new connections to successors and not to their predecessors.

        Without that they are shared, and one that comes to a predecessor in its last moment is refused. The first
        successor is number `sharers`, and stays so until the last predecessor has gone: where one leaves, the kernel
        moves the last that came. A number that is too high, as while nobody takes over, it passes over.
        """
        instruction = struct.pack("HBBI", _RETURN, 0, 0, self._sharers)
        program = ctypes.create_string_buffer(instruction, len(instruction))
        filters = struct.pack("HxxxxxxQ", 1, ctypes.addressof(program))
        for listening in _listening_at(self.bound):
            with contextlib.closing(listening), contextlib.suppress(OSError):  # not every kernel can
                listening.setsockopt(socket.SOL_SOCKET, _ATTACH_CBPF, filters)

    def leave(self) -> None:
        """Removes the socket's name, unless a successor has it by now."""
        if self._path is None or self._published is None:
            return
        published, self._published = self._published, None
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(published), self._path.stat()):
                self._path.unlink()
        os.close(published)


def _listening_at(address: str) -> Iterator[socket.socket]:
    """Our sockets that listen at an address, each to be closed; gRPC and Envoy do not show those that they made."""
    path = address.removeprefix(UNIX) if address.startswith(UNIX) else None
    port = None if path is not None else int(address.rpartition(":")[2])
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            copy = os.dup(int(descriptor.name))
        except OSError:
            continue  # closed meanwhile
        try:
            found = socket.socket(fileno=copy)
        except OSError:  # no socket
            os.close(copy)
            continue
        with contextlib.suppress(OSError):
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                is_tcp, name = found.family in {socket.AF_INET, socket.AF_INET6}, found.getsockname()
                if (is_tcp and name[1] == port) or (not is_tcp and name == path):
                    yield found
                    continue
        found.close()

"""The place of a listener, taken so that a successor can take it over while the predecessor still answers.

A TCP port is shared by the two for a moment (SO_REUSEPORT): the kernel is told to give new connections to the
successor (SO_ATTACH_REUSEPORT_CBPF), and then the predecessor stops to listen, with none in its queue. A unix socket
is bound under a passing name and then renamed over the one before: gRPC removes the name that it bound when it stops,
which must not be the one that a successor listens on. Not for: whether somebody else has the place.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from mixer_py.errors import ProcessError

UNIX = "unix://"
_ATTACH_CBPF = 51  # SO_ATTACH_REUSEPORT_CBPF, socket(7); Python has no name for it
_RETURN_SECOND = struct.pack("HBBI", 0x06, 0, 0, 1)
"""A classic BPF program of one instruction, `ret #1`: the second of those that listen on the port. A number that is too
high, as when there is one, is passed over by the kernel."""


class Place:
    """An address as one process takes it.

    Attributes:
        bound: the address to bind.
    """

    def __init__(self, address: str) -> None:
        self._path = Path(address.removeprefix(UNIX)) if address.startswith(UNIX) else None
        self._passing = (
            None if self._path is None else self._path.with_name(f"{self._path.name}.{secrets.token_hex(2)}")
        )
        self.bound = address if self._passing is None else f"{UNIX}{self._passing}"
        self._inode = 0

    def publish(self) -> None:
        """What is bound is now found at the address, instead of what was there.

        Raises:
            ProcessError: the socket cannot be put there.
        """
        if self._path is None or self._passing is None:
            self._prefer()
            return
        try:
            self._inode = self._passing.stat().st_ino
            self._passing.replace(self._path)
        except OSError as error:
            raise ProcessError(f"cannot listen on {UNIX}{self._path}: {error.strerror}") from error

    def stop_listening(self) -> None:
        """Takes no new connections from now on; those that there are stay.

        A unix socket gets none any more since its successor has its name.
        """
        if self._path is None:
            for listening in _listening_on(_port(self.bound)):
                with contextlib.closing(listening), contextlib.suppress(OSError):  # a second name of one shut already
                    listening.shutdown(socket.SHUT_RDWR)

    def _prefer(self) -> None:
        """Lets the kernel give new connections to this process and not to the predecessor.

        Without that they are shared, and one that comes to the predecessor in its last moment is refused.
        """
        program = ctypes.create_string_buffer(_RETURN_SECOND, len(_RETURN_SECOND))
        filters = struct.pack("HxxxxxxQ", 1, ctypes.addressof(program))
        for listening in _listening_on(_port(self.bound)):
            with contextlib.closing(listening), contextlib.suppress(OSError):  # not every kernel can
                listening.setsockopt(socket.SOL_SOCKET, _ATTACH_CBPF, filters)

    def leave(self) -> None:
        """Removes the socket's name, unless a successor has it by now."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                if self._path.stat().st_ino == self._inode:
                    self._path.unlink()


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _listening_on(port: int) -> Iterator[socket.socket]:
    """Our sockets that listen on a port, each to be closed; gRPC does not show those that it made."""
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found = socket.socket(fileno=os.dup(int(descriptor.name)))
        except OSError:
            continue  # no socket, or closed meanwhile
        with contextlib.suppress(OSError):
            is_tcp = found.family in {socket.AF_INET, socket.AF_INET6}
            if is_tcp and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and found.getsockname()[1] == port:
                yield found
                continue
        found.close()

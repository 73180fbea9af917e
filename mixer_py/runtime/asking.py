"""A connection to the running mixer, over the unix socket of its admin pages. Not for: what is asked over it."""

from __future__ import annotations

import http.client
import os
import socket
from pathlib import Path

from mixer_py.config import Configuration, socket_candidates
from mixer_py.errors import NotRunningError

_TIMEOUT = 300.0  # seconds without a byte; the limit of a query is mixer's own, and shorter


def connect(configuration: Configuration, timeout: float = _TIMEOUT) -> http.client.HTTPConnection:
    """Connects to the mixer that runs with this configuration; the caller closes.

    Args:
        configuration: says where its socket is.
        timeout: seconds without a byte after which it counts as away.

    Raises:
        NotRunningError: nobody answers; the message says where.
    """
    refused = []
    for path in socket_candidates(configuration.server, os.environ):
        connection = _UnixConnection(path, timeout)
        try:
            connection.connect()
        except FileNotFoundError:
            refused.append(f"{path} (not there)")
        except OSError as error:
            refused.append(f"{path} ({error.strerror or error})")
        else:
            return connection
    tried = ", ".join(refused)
    way_out = "start one with `mixer serve`, or name its configuration with -c"
    raise NotRunningError(f"no mixer answers at {tried}; {way_out}")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("mixer", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self.timeout)
        try:
            connection.connect(str(self._path))
        except BaseException:
            connection.close()
            raise
        self.sock = connection

"""Serve the application on its TCP address and on its private unix socket, with one uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from mixer_py.errors import ProcessError

_BACKLOG = 128


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the supervisor."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class AdminServer:
    """The listening application."""

    def __init__(self, application: ASGIApp, host: str, port: int, socket_path: Path) -> None:
        self._host = host
        self._port = port
        self._socket_path = socket_path
        self._server = _Uvicorn(
            uvicorn.Config(
                application,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=2,
                limit_concurrency=64,
                http="h11",
            )
        )
        self._task: asyncio.Task[None] | None = None
        self._unix: socket.socket | None = None

    async def start(self) -> None:
        """Binds both and serves.

        Raises:
            ProcessError: the address is in use, or another mixer answers on the socket.
        """
        tcp = _bind_tcp(self._host, self._port)
        try:
            self._unix = _bind_unix(self._socket_path)
        except ProcessError:
            tcp.close()
            raise
        self._task = asyncio.create_task(self._server.serve(sockets=[tcp, self._unix]))

    async def stop(self) -> None:
        """Answers what is asked already, then closes and removes the socket."""
        if self._task is None:
            return
        self._server.should_exit = True
        await self._task
        self._socket_path.unlink(missing_ok=True)


def _bind_tcp(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ProcessError(f"cannot listen on {host}:{port} (server.admin): {error.strerror}") from error
    return listener


def _bind_unix(path: Path) -> socket.socket:
    """A listening socket of mode 0600; a stale one is replaced, a live one never stolen, anything else left alone."""
    if path.exists() and not path.is_socket():
        raise ProcessError(f"{path} (server.socket) is there and is no socket; name another path")
    if path.exists() and _answers(path):
        raise ProcessError(f"another mixer answers on {path} (server.socket)")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Bound under another name and moved into place: nobody meets it before it listens and has its mode.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        previous = os.umask(0o177)
        try:
            listener.bind(str(draft))
        finally:
            os.umask(previous)
        listener.listen(_BACKLOG)
        draft.replace(path)
    except OSError as error:
        listener.close()
        raise ProcessError(f"cannot listen on {path} (server.socket): {error}") from error
    return listener


def _answers(path: Path) -> bool:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    probe.settimeout(1.0)
    try:
        probe.connect(str(path))
    except OSError as error:
        if error.errno in {errno.ECONNREFUSED, errno.ENOENT}:
            return False
        raise ProcessError(f"{path} (server.socket) is not a socket that can be replaced: {error}") from error
    finally:
        probe.close()
    return True

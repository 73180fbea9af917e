"""The Envoy around this Python: gives it listeners, takes them away, and asks it how it is.

Over files that Envoy watches and a private unix socket. Not for: what a listener is made of (`resources`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from mixer_py.errors import ProcessError
from mixer_py.transports.envoy.answering import Event, Receive, Send
from mixer_py.transports.envoy.files import HostFiles
from mixer_py.transports.envoy.resources import NOBODY, Application, Resource

Asgi = Callable[[Event, Receive, Send], Awaitable[None]]

OWN: Final = "mixer_listener_"
"""What the names of listeners begin with that are mixer's own."""
_START_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.02
_ASK_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 1.0
_SPEAK_SECONDS: Final = 20.0
"""How long gRPC lets an attempt to connect take, and so who has connected may stay silent."""
_REFUSED: Final = "http.(calls|inside).adaptive_concurrency.gradient_controller.rq_blocked"
"""Calls of all listeners that Envoy has refused by itself (`resources`)."""


class EnvoyHost:
    """One Envoy, from inside.

    Attributes:
        files: between it and us.
        data_plane: listeners of the data plane that this Envoy is; none when it is mixer's alone.
    """

    def __init__(self, files: HostFiles, module: Path, applications: str) -> None:
        """Prepares to speak to it.

        Args:
            files: between it and us.
            module: pyvoy's dynamic module.
            applications: name of the Python module that pyvoy looks for them in.
        """
        self.files = files
        told = files.read_data_plane()
        self.data_plane: Sequence[Resource] = told.get("listeners", ())
        self._admin: Resource = told.get("admin") or {"pipe": {"path": str(files.admin)}}
        self._application = Application(module, f"{applications}:{NOBODY}")
        self._listeners: dict[str, Resource] = {}
        self._applications: dict[str, Asgi] = {NOBODY: _answer_nobody}
        self._version = 0
        self._named = 0
        self._refused = 0
        self._looking: asyncio.Task[None] | None = None

    def find(self, name: str) -> Asgi:
        """What answers at a listener, by the name that `take` gave it; for pyvoy.

        Raises:
            KeyError: there is none.
        """
        return self._applications[name]

    def take(self, application: Asgi, name: str = "") -> tuple[str, Application]:
        """A name for a listener unless it has one, and what its filter calls."""
        if not name:
            self._named += 1
            name = f"{OWN}{self._named}"
        self._applications[name] = application
        return name, self._application.beside(name)

    async def add(self, name: str, listener: Resource) -> None:
        """Lets Envoy listen; returns when it does.

        Raises:
            ProcessError: it cannot, and why.
        """
        self._listeners[name] = listener
        version = self._write()
        end = time.monotonic() + _START_SECONDS
        while True:
            state = await self._state(name)
            if "error_state" in state:
                self.remove(name)
                raise ProcessError(str(state["error_state"].get("details", "Envoy does not say why")))
            # The version is that of the first file in which this listener stood as it is now.
            if int(state.get("active_state", {}).get("version_info") or 0) >= version:
                return
            if time.monotonic() > end:
                raise ProcessError(f"Envoy did not take it within {_START_SECONDS:g} s")
            await asyncio.sleep(_PAUSE_SECONDS)

    def remove(self, name: str) -> None:
        """Lets Envoy stop to listen. It asks the clients of what was there to go, with every answer."""
        if self._listeners.pop(name, None) is not None:
            self._write()

    def hurry(self) -> None:
        """Asks the clients of idle connections to go, too."""
        self.files.write_hurry(now=True)

    async def hurry_later(self) -> None:
        """The same once everybody has had the time to speak who was accepted last.

        To Envoy a connection that has not spoken yet is idle, and it closes it without the word that lets a client of
        gRPC connect anew: to that client the address has failed.
        """
        await asyncio.sleep(_SPEAK_SECONDS)
        self.hurry()

    def tell_refused(self, count: Callable[[int], None]) -> None:
        """From now on tells every second how many calls Envoy has refused by itself since it told last."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._tell_refused(count))

    async def _tell_refused(self, count: Callable[[int], None]) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            with contextlib.suppress(ProcessError):  # it is asked again, and the number only grows
                refused = await self.count(_REFUSED)
                count(refused - self._refused)
                self._refused = refused

    async def count(self, statistic: str) -> int:
        """One of Envoy's numbers, by its whole name.

        Raises:
            ProcessError: Envoy does not answer.
        """
        return sum((await self.counts(statistic)).values())

    async def counts(self, pattern: str) -> Mapping[str, int]:
        """Those of Envoy's numbers whose whole names a regular expression fits.

        Raises:
            ProcessError: Envoy does not answer.
        """
        found = json.loads(await self._ask(f"/stats?format=json&filter={quote(f'^{pattern}$')}"))
        return {one["name"]: int(one.get("value", 0)) for one in found["stats"] if "name" in one}

    async def until_none(self, pattern: str, others: tuple[str, ...] = ()) -> None:
        """Returns when all those numbers are 0, but for those whose names begin as one of the others.

        As long as Envoy does not tell, nobody knows.
        """
        while True:
            with contextlib.suppress(ProcessError):
                numbers = await self.counts(pattern)
                if not any(number for name, number in numbers.items() if not name.startswith(others)):
                    return
            await asyncio.sleep(_PAUSE_SECONDS)

    def _write(self) -> int:
        self._version += 1
        self.files.write_listeners(list(self._listeners.values()), self._version)
        return self._version

    async def _state(self, name: str) -> Mapping[str, Any]:
        """What Envoy says of a listener; nothing when it has not read of it yet."""
        dumped = json.loads(await self._ask("/config_dump?resource=dynamic_listeners"))
        return next((one for one in dumped.get("configs", ()) if one["name"] == name), {})

    async def _ask(self, path: str) -> bytes:
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                return await self._get(path)
        except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError) as error:
            raise ProcessError(f"Envoy's admin socket does not answer: {error!r}") from error

    async def _get(self, path: str) -> bytes:
        if "pipe" in self._admin:
            reader, writer = await asyncio.open_unix_connection(self._admin["pipe"]["path"])
        else:
            place = self._admin["socket_address"]
            reader, writer = await asyncio.open_connection(place["address"], place["port_value"])
        with contextlib.closing(writer):
            writer.write(f"GET {path} HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.partition(b"\r\n")[0]:
                raise ValueError(head.decode("latin-1"))
            if b"transfer-encoding: chunked" not in head:
                return await reader.read()
            body = b""
            while size := int(await reader.readline(), 16):
                body += await reader.readexactly(size)
                await reader.readline()
            return body


async def _answer_nobody(_scope: Event, _receive: Receive, _send: Send) -> None:
    """At the listener that nobody can reach."""
    raise AssertionError("nobody can reach this")

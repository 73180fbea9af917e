"""Two small HTTP services to put behind Envoy. They know nothing of mixer: that is the point of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

_MAX_HEAD = 65536
Answer = Callable[[str, str], object]
"""(method, path) to a body that JSON can write, or None where the service breaks down in the middle of the request."""


def reviews(method: str, path: str) -> object:
    """What people think of a book."""
    if method == "DELETE":
        return {"deleted": path}
    return {"path": path, "reviews": [{"by": "reader-1", "text": "An extremely entertaining play by Shakespeare."}]}


def ratings(_method: str, path: str) -> object:
    """Stars; /ratings/broken drops the connection without a reply, as a service does that crashes."""
    return None if path.startswith("/ratings/broken") else {"path": path, "stars": 5}


class Service:
    """One HTTP/1.1 service on a free port of 127.0.0.1."""

    def __init__(self, name: str, answer: Answer) -> None:
        self.name = name
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def start(self) -> int:
        """Listens; its port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_MAX_HEAD)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        """Stops listening and closes what is open."""
        if self._server is None:
            return
        self._server.close()
        for writer in tuple(self._connections):
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # the peer has gone, or speaks no HTTP
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request_line, *lines = head.split("\r\n")
        method, path, _ = request_line.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        await reader.readexactly(int(headers.get("content-length", "0")))
        answer = self._answer(method, path)
        if answer is None:
            writer.transport.abort()
            return False
        body = json.dumps(answer).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        await writer.drain()
        return True

"""HTTP/2 and gRPC framing, over a socket: a message reaches its handler whole and once, or not at all."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from mixer_py.calls import Call
from mixer_py.instruments import Registry, SystemClock
from mixer_py.services import access_log, ext_authz
from mixer_py.transports import Admission, GrpcioServer, HandlerTable, ServerLimits
from tests.fuzz.target import run

LIMITS = ServerLimits(
    max_message_bytes=4096,
    max_in_flight=8,
    max_connection_age=3600,
    max_connection_age_grace=5,
    max_streams=100,
    max_metadata_bytes=16 << 10,
)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, GO_AWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
PATIENCE = 20.0
"""Seconds in which an answer, or the end of the connection, has to come."""


class Server:
    """A listener of the transport, and what its handlers were given."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="mixer-fuzz-")
        self.path = str(Path(self.folder.name, "s"))
        self.calls: list[bytes] = []
        self.streams: list[list[bytes]] = []
        clock = SystemClock()
        table = HandlerTable({ext_authz.METHOD: self._echo}, {access_log.METHOD: self._count})
        admission = Admission(LIMITS.max_in_flight, clock, Registry())
        self._server = GrpcioServer(f"unix://{self.path}", table, LIMITS, admission, clock)

    async def start(self) -> Server:
        await self._server.start()
        return self

    async def _echo(self, message: bytes, call: Call) -> bytes:
        self.calls.append(message)
        return message

    async def _count(self, messages: AsyncIterator[bytes], call: Call) -> bytes:
        read: list[bytes] = []
        self.streams.append(read)
        async for message in messages:
            read.append(message)  # noqa: PERF401 (what was read before a stream was cut has to be seen, too)
        return b"%d" % len(read)


_SERVERS: list[Server] = []


def check(data: bytes) -> None:
    run(_check(data[:1], data[1:]))


async def _check(kind: bytes, data: bytes) -> None:
    if not _SERVERS:
        _SERVERS.append(await Server().start())
    server = _SERVERS[0]
    server.calls.clear()
    server.streams.clear()
    if kind == b"u":
        await _check_unary(server, data)
    elif kind == b"s":
        await _check_stream(server, data)
    else:
        await exchange(server.path, PREFACE + frame(SETTINGS, 0, 0, b"") + data, ends=True)
    server.calls.clear()
    assert await answer(server.path, ext_authz.METHOD, grpc_frame(b"well")) == [b"well"], "the next call has no answer"
    assert server.calls == [b"well"]


async def _check_unary(server: Server, body: bytes) -> None:
    if len(body) < 5 + int.from_bytes(body[1:5], "big"):
        # grpcio's server never ends a unary call that was half-closed without a message; docs/fuzzing.md.
        body = grpc_frame(body)
    answers = await answer(server.path, ext_authz.METHOD, body)
    messages = framed(body)
    assert len(server.calls) <= 1, "one call was handled twice"
    assert len(answers) == len(server.calls), "an answer that no handler gave, or one that was lost"
    for message in server.calls if known_flags(body) else ():
        assert body.startswith(grpc_frame(message)), f"a handler was given {message!r}, not what was sent"
    if messages is not None and len(messages) == 1 and len(messages[0]) <= LIMITS.max_message_bytes:
        assert answers == messages, "a whole message has no answer"


async def _check_stream(server: Server, body: bytes) -> None:
    answers = await answer(server.path, access_log.METHOD, body)
    assert len(answers) <= len(server.streams) <= 1, "one stream was handled twice"
    for read in server.streams if known_flags(body) else ():
        assert body.startswith(b"".join(map(grpc_frame, read))), "a handler was given other messages than were sent"
    messages = framed(body)
    if messages is not None and all(len(message) <= LIMITS.max_message_bytes for message in messages):
        assert answers == [b"%d" % len(messages)], "messages of a stream were lost"


def framed(body: bytes) -> list[bytes] | None:
    """The messages in a body of whole, plain frames (gRPC over HTTP/2: Length-Prefixed-Message); None for another."""
    messages: list[bytes] = []
    while body:
        length = int.from_bytes(body[1:5], "big")
        if len(body) < 5 + length or body[0] != 0:
            return None
        messages.append(body[5 : 5 + length])
        body = body[5 + length :]
    return messages


def known_flags(body: bytes) -> bool:
    """Whether no frame has another flag than that of compression; gRPC core makes an empty message of such a one."""
    while len(body) >= 5:
        if body[0] > 1:
            return False
        body = body[5 + int.from_bytes(body[1:5], "big") :]
    return True


def grpc_frame(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2 (RFC 9113, 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def literal(name: str, value: str) -> bytes:
    """A header field without indexing (RFC 7541, 6.2.2); both parts are below 127 bytes."""
    return b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()


def request(method: str, body: bytes) -> bytes:
    """A call as a client sends it, its body in frames of at most 100 bytes."""
    fields = {":method": "POST", ":scheme": "http", ":path": method, ":authority": "m", "te": "trailers",
              "content-type": "application/grpc"}  # fmt: skip
    sent = PREFACE + frame(SETTINGS, 0, 0, b"")
    sent += frame(HEADERS, END_HEADERS, 1, b"".join(literal(*field) for field in fields.items()))
    for first in range(0, len(body), 100):
        sent += frame(DATA, 0, 1, body[first : first + 100])
    return sent + frame(DATA, END_STREAM, 1, b"")


async def answer(path: str, method: str, body: bytes) -> list[bytes]:
    """The messages that a call is answered with."""
    content = await exchange(path, request(method, body), ends=False)
    messages = framed(content)
    assert messages is not None, "an answer that is no gRPC message"
    return messages


async def exchange(path: str, sent: bytes, *, ends: bool) -> bytes:
    """Sends bytes, and reads until the first stream or the connection has ended; the data of that stream.

    Args:
        path: of the socket.
        sent: everything that is sent.
        ends: close our side behind it.
    """
    reader, writer = await asyncio.open_unix_connection(path)
    content = b""
    try:
        async with asyncio.timeout(PATIENCE):
            writer.write(sent)
            if ends:
                writer.write_eof()
                while await reader.read(65536):
                    continue
                return b""
            while True:
                head = await reader.readexactly(9)
                payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
                if kind == DATA and stream == 1:
                    content += payload
                if kind == SETTINGS and not flags & ACK:
                    writer.write(frame(SETTINGS, ACK, 0, b""))
                over = kind in {DATA, HEADERS} and stream == 1 and flags & END_STREAM
                if over or kind == GO_AWAY or (kind == RESET and stream == 1):
                    return content
    except (ConnectionError, asyncio.IncompleteReadError):
        return content
    finally:
        writer.close()


def seeds() -> Iterator[bytes]:
    for body in (
        grpc_frame(b"hello"), grpc_frame(b""), b"", b"\0\0", grpc_frame(b"x" * 5000), b"\1" + grpc_frame(b"z")[1:],
        grpc_frame(b"a") + grpc_frame(b"b"), grpc_frame(b"cut")[:-1], b"\0\xff\xff\xff\xff", b"\2\0\0\0\1a",
    ):  # fmt: skip
        yield b"u" + body
        yield b"s" + body
    whole = request(ext_authz.METHOD, grpc_frame(b"hello"))[len(PREFACE) + 9 :]
    yield b"r" + whole
    yield b"r" + whole.replace(b"POST", b"GETT") + frame(GO_AWAY, 0, 0, b"\0" * 8)
    yield (
        b"r"
        + frame(HEADERS, 0, 1, b"\x82\xff\xff\xff\xff\xff")
        + frame(9, 4, 1, b"x")
        + frame(SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff")
    )

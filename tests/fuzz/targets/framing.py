"""HTTP/2 and gRPC framing, over a socket: a message reaches its handler whole and once, or not at all."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mixer_py.services import access_log, ext_authz
from tests.fuzz.framing_server import GAVE_UP, HOW_MANY, LIMITS
from tests.fuzz.target import FOLDER, run

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, GO_AWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
IS_ELSEWHERE = True
PATIENCE = 120.0
"""Seconds in which an answer, or the end of the connection, has to come; far above what any takes."""


class Server:
    """A listener in a process of its own, which is replaced when it gives up, as a worker is."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mixer-fuzz-")
        self.path = str(Path(self._folder.name, "s"))
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Starts it, unless it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        Path(self.path).unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.fuzz.framing_server", self.path]
        self._process = subprocess.Popen(command, cwd=FOLDER.parents[1], stderr=subprocess.DEVNULL)
        while not await self._accepts():
            assert self._process.poll() is None, "the listener does not start"
            await asyncio.sleep(0.01)

    async def _accepts(self) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(self.path)
        except (ConnectionError, FileNotFoundError):
            return False
        writer.close()
        return True

    def gave_up(self) -> bool:
        """Whether it has ended because it could take no more calls."""
        assert self._process is not None
        try:
            return self._process.wait(PATIENCE) == GAVE_UP
        except subprocess.TimeoutExpired:
            return False


SERVER = Server()


def check(data: bytes) -> None:
    run(_check(data[:1], data[1:]))


async def _check(kind: bytes, data: bytes) -> None:
    await SERVER.start()
    answers: list[bytes] = []
    if kind == b"u":
        answers = await answer(SERVER.path, ext_authz.METHOD, data)
        _check_unary(data, answers)
    elif kind == b"s":
        answers = await answer(SERVER.path, access_log.METHOD, data)
        _check_stream(data, answers)
    else:
        await exchange(SERVER.path, PREFACE + frame(SETTINGS, 0, 0, b"") + data, ends=True)
    told = await answer(SERVER.path, ext_authz.METHOD, grpc_frame(HOW_MANY))
    if not told and kind not in {b"u", b"s"}:
        assert SERVER.gave_up(), "the next call has no answer, and nobody notices"
        return
    assert len(told) == 1, "the next call has no answer"
    calls = int(told[0])
    assert kind not in {b"u", b"s"} or len(answers) <= calls <= 1, (
        f"{calls} calls were handled, {len(answers)} answered"
    )


def _check_unary(body: bytes, answers: list[bytes]) -> None:
    messages = framed(body)
    for message in answers if known_flags(body) else ():
        assert body.startswith(grpc_frame(message)), f"a handler was given {message!r}, not what was sent"
    if messages is not None and len(messages) == 1 and len(messages[0]) <= LIMITS.max_message_bytes:
        assert answers == messages, "a whole message has no answer"


def _check_stream(body: bytes, answers: list[bytes]) -> None:
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
    try:
        reader, writer = await asyncio.open_unix_connection(path)
    except ConnectionError:  # it has ended, and is not replaced yet
        return b""
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

"""HTTP/2 and gRPC framing on the transport envoy: headers, messages in pieces, and frames of any kind, over a socket.

What a body says is read by Python's own `zlib` and `gzip`; what comes back, frame by frame.
"""

from __future__ import annotations

import gzip
import os
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from h2.exceptions import ProtocolError

from mixer_py.services import ext_authz
from tests.fuzz.framing_envoy_server import SOCKET
from tests.fuzz.framing_server import HOW_MANY, LIMITS
from tests.fuzz.target import FOLDER, joined, split
from tests.fuzz.targets.framing import (
    DATA,
    GO_AWAY,
    HEADERS,
    PREFACE,
    RESET,
    SETTINGS,
    frame,
    framed,
    grpc_frame,
    literal,
)
from tests.parts.raw_grpc import ConnectionGoneError, Reply, dial, raw

IS_ELSEWHERE = True
PATIENCE = 120.0
"""Seconds in which the listener has to stand, and an answer or an end to come; far above what any takes."""
MEMORY_MEBIBYTES = 1024
"""How much Envoy and the Python in it may hold together."""
SETTLED = frame(SETTINGS, 0, 0, b"")


class Server:
    """An Envoy with the listener in it, which lives as long as this process: nothing that is sent may end it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mixer-fuzz-")
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"unix://{self._folder.name}/{SOCKET}"

    def start(self) -> None:
        """Starts it, the first time."""
        if self._process is not None:
            return
        command = [sys.executable, "-m", "tests.fuzz.framing_envoy_server", self._folder.name]
        path = {"PYTHONPATH": str(FOLDER.parents[1])}
        self._process = subprocess.Popen(command, env={**os.environ, **path}, stderr=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE
        while not self._answers():
            assert self._process.poll() is None, "the listener does not start"
            assert time.monotonic() < end, f"the listener is not there within {PATIENCE:g} s"
            time.sleep(0.05)

    def _answers(self) -> bool:
        with suppress(OSError, ConnectionGoneError), closing(dial(self.address)) as connection:
            connection.greet()
            return True
        return False

    def check(self) -> None:
        """It runs, and holds no more memory than it may."""
        assert self._process is not None
        assert self._process.poll() is None, f"Envoy has ended with {self._process.returncode}"
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        held = pages * os.sysconf("SC_PAGE_SIZE") >> 20
        assert held < MEMORY_MEBIBYTES, f"Envoy holds {held} MiB"


SERVER = Server()


def check(data: bytes) -> None:
    SERVER.start()
    if data[:1] == b"c":
        reply = _call(split(data[1:]))
    else:
        reply = None
        _exchange(PREFACE + SETTLED + data[1:])
    SERVER.check()
    with raw(SERVER.address) as connection:
        told = connection.call(ext_authz.METHOD, grpc_frame(HOW_MANY), seconds=PATIENCE)
    assert told.status == 0 and len(told.messages) == 1, f"the next call has no answer: {told}"
    if reply is not None:
        calls = int(told.messages[0])
        assert calls <= 1 and (calls == 1 or not reply.reads_as_success), f"{calls} calls were handled: {reply}"


def _call(parts: list[bytes]) -> Reply | None:
    """One call: its time, how its message is compressed, another header of its own, and its body in pieces."""
    timeout, encoding, other, *pieces = [*parts, *[b""] * (3 - len(parts))]
    name, _, value = other.partition(b"=")
    pieces = [*filter(None, pieces[:-1]), *pieces[-1:]]  # Envoy ends a connection for two empty frames in a row
    extra = [(header, text.decode("latin-1")) for header, text in (
        ("grpc-timeout", timeout), ("grpc-encoding", encoding), (name.decode("latin-1"), value)
    ) if text]  # fmt: skip
    connection = dial(SERVER.address)
    reply = None
    try:
        connection.greet()
        stream = connection.open(ext_authz.METHOD, extra=extra, end=not pieces)
        reply = connection.replies[stream]
        for number, piece in enumerate(pieces, start=1):
            connection.send(stream, piece, end=number == len(pieces))
        connection.reply(stream, PATIENCE)
    except (ConnectionGoneError, ProtocolError, OSError):
        pass  # what was sent is no HTTP/2, for one of the two sides
    finally:
        connection.close()
    if reply is not None:
        _check(reply, b"".join(pieces), encoding, plain=not (timeout or encoding or value))
    return reply


def _check(reply: Reply, body: bytes, encoding: bytes, *, plain: bool) -> None:
    wanted = _message(body, encoding)
    if reply.reads_as_success:
        assert wanted is not None, f"an answer to what is no message: {reply}"
        assert reply.messages == [wanted], f"not what was sent: {reply}"
    elif reply.is_over and reply.reset is None:
        assert not reply.body, f"a refusal with an answer: {reply}"
        assert reply.http_status != 200 or reply.status is not None, f"neither an answer nor a refusal: {reply}"
    assert not plain or wanted is None or reply.reads_as_success, f"a whole message has no answer: {reply}"


def _message(body: bytes, encoding: bytes) -> bytes | None:
    """The message that a body is; None for what is to be refused."""
    if body[:1] == b"\0":
        messages = framed(body)
        return messages[0] if messages is not None and len(messages) == 1 and fits(messages[0]) else None
    if body[:1] != b"\1" or int.from_bytes(body[1:5], "big") != len(body) - 5 or len(body) < 5:
        return None
    try:
        message = {b"gzip": gzip.decompress, b"deflate": inflate}[encoding](body[5:])
    except (KeyError, OSError, EOFError, zlib.error):
        return None
    return message if fits(message) else None


def inflate(data: bytes) -> bytes:
    """What a zlib stream holds, behind which nothing may follow: `zlib.decompress` would not say so."""
    inflater = zlib.decompressobj()
    message = inflater.decompress(data)
    if inflater.unused_data or not inflater.eof:
        raise EOFError
    return message


def fits(message: bytes) -> bool:
    """Whether the listener takes it."""
    return len(message) <= LIMITS.max_message_bytes


def _exchange(sent: bytes) -> None:
    """Sends bytes and half-closes; the listener has to end the connection."""
    with closing(dial(SERVER.address, seconds=PATIENCE)) as connection, suppress(BrokenPipeError, ConnectionResetError):
        connection.send_raw(sent)
        connection.sock.shutdown(socket.SHUT_WR)
        while connection.sock.recv(65536):
            continue


def seeds() -> Iterator[bytes]:
    hello = grpc_frame(b"hello")
    heads = [
        (b"", b"", b""),
        (b"1S", b"", b""),
        (b"0n", b"identity", b""),
        (b"99999999H", b"", b"x-a=b"),
        (b"-1S", b"snappy", b"mixer-begun=nan"),
        (b"", b"", b"x-forwarded-client-cert=URI=spiffe://a/b"),
        (b"", b"", b"content-length=3"),
        (b"", b"", b"content-type=text/plain"),
        (b"", b"", b"te=x"),
    ]
    for head in heads:
        yield call(*head, hello)
        yield call(*head, hello[:3], hello[3:])
    bodies = [
        b"", b"\0\0", b"\0\xff\xff\xff\xff", hello[:-1], hello + hello, grpc_frame(b"x" * 5000), b"\2\0\0\0\1a",
        b"\1\0\0\0\1z",
    ]  # fmt: skip
    for body in bodies:
        yield call(b"", b"", b"", body)
    for encoding, packed in ((b"gzip", gzip.compress(b"hello", mtime=0)), (b"deflate", zlib.compress(b"\0" * 9000))):
        yield call(b"", encoding, b"", b"\1" + grpc_frame(packed)[1:])
    fields = {":method": "POST", ":scheme": "http", ":path": ext_authz.METHOD, ":authority": "m", "te": "trailers",
              "content-type": "application/grpc"}  # fmt: skip
    opened = frame(HEADERS, 4, 1, b"".join(literal(*field) for field in fields.items()))
    yield b"r" + opened + frame(DATA, 1, 1, hello)
    yield b"r" + opened + frame(DATA, 0, 1, hello[:4]) + frame(RESET, 0, 1, b"\0\0\0\x08") + opened[:9]
    yield b"r" + opened.replace(b"POST", b"GETT") + frame(GO_AWAY, 0, 0, b"\0" * 8)
    yield b"r" + frame(HEADERS, 0, 1, b"\x82\xff\xff\xff\xff\xff") + frame(9, 4, 1, b"x")
    yield b"r" + frame(SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff") + frame(8, 0, 0, b"\x7f\xff\xff\xff")


def call(*parts: bytes) -> bytes:
    """An input that is a call."""
    return b"c" + joined(parts)

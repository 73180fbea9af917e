"""Frames between a mixer process and the store: requests and answers over a unix socket.

A frame is three 4-byte numbers (version, length of the header, length of the body), a JSON object and bytes. Requests
on one connection are answered in order. Not for: what a request does (`engine.py`).

    {"request": "write", "table": …, "token": …}   body: Arrow IPC stream of one record batch
    {"request": "query", "sql": …, "limits": {…}}  answered with JSONEachRow as the body
    {"request": "ping"}
    {"ok": true} | {"ok": false, "kind": …, "message": …}
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

import orjson

from mixer_py.errors import InvalidRequestError

VERSION: Final = 1
MAX_HEADER: Final = 1 << 20
"""Bytes of a header; a query's text is a part of it."""
MAX_BODY: Final = 64 << 20
"""Bytes of a body: a batch of rows, or the rows of an answer."""

_PREFIX: Final = struct.Struct("!III")


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """What one query may cost.

    Attributes:
        seconds: time, after which it fails.
        rows: rows of the result; one more and it fails.
        result_bytes: bytes of the result in memory.
        memory: bytes that it may use while it runs.
    """

    seconds: float = 30.0
    rows: int = 10_000
    result_bytes: int = 32 << 20
    memory: int = 512 << 20

    def to_header(self) -> dict[str, float]:
        """As it stands in a request."""
        return asdict(self)

    @classmethod
    def from_header(cls, value: object) -> QueryLimits:
        """What `to_header` made.

        Raises:
            InvalidRequestError: a limit is missing, unknown, or not a number above zero.
        """
        names = {"seconds", "rows", "result_bytes", "memory"}
        if not isinstance(value, dict) or value.keys() != names:
            raise InvalidRequestError(f"limits of a query are exactly {', '.join(sorted(names))}")
        for name, limit in value.items():
            number = isinstance(limit, int) or (name == "seconds" and isinstance(limit, float))
            if isinstance(limit, bool) or not number or limit <= 0:
                raise InvalidRequestError(f"limit {name} of a query is {limit!r}, not a number above zero")
        return cls(float(value["seconds"]), value["rows"], value["result_bytes"], value["memory"])


@dataclass(frozen=True, slots=True)
class Frame:
    """One request or answer; what was read has bytes as its body."""

    header: Mapping[str, object]
    body: bytes | memoryview = b""


def encode(frame: Frame) -> list[bytes | memoryview]:
    """A frame as pieces to be written one after another.

    Raises:
        InvalidRequestError: it is larger than the other side would read.
    """
    header = orjson.dumps(frame.header)
    if len(header) > MAX_HEADER or len(frame.body) > MAX_BODY:
        raise InvalidRequestError(
            f"a frame of {len(header)} and {len(frame.body)} bytes; {MAX_HEADER} and {MAX_BODY} are allowed"
        )
    return [_PREFIX.pack(VERSION, len(header), len(frame.body)), header, frame.body]


async def write_frame(writer: asyncio.StreamWriter, frame: Frame) -> None:
    """Sends one frame.

    Raises:
        InvalidRequestError: it is too large; nothing was sent.
        OSError: the other side is gone.
    """
    writer.writelines(encode(frame))
    await writer.drain()


async def read_frame(reader: asyncio.StreamReader) -> Frame | None:
    """The next frame; None when the other side closed the connection, also in the middle of a frame.

    Raises:
        InvalidRequestError: what comes is not a frame of this version; the connection is of no more use.
        OSError: the connection broke.
    """
    try:
        version, header_length, body_length = _PREFIX.unpack(await reader.readexactly(_PREFIX.size))
        if version != VERSION:
            raise InvalidRequestError(f"the other side speaks version {version} of the store's protocol, not {VERSION}")
        if header_length > MAX_HEADER or body_length > MAX_BODY:
            raise InvalidRequestError(f"a frame of {header_length} and {body_length} bytes is too large")
        header = await reader.readexactly(header_length)
        body = await reader.readexactly(body_length)
    except asyncio.IncompleteReadError:
        return None
    try:
        decoded = orjson.loads(header)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError(f"a frame's header is no JSON: {error}") from error
    if not isinstance(decoded, dict):
        raise InvalidRequestError(f"a frame's header is {type(decoded).__name__}, not an object")
    return Frame(decoded, body)

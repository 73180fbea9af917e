"""One connection to a server, below redis-py once that has opened it: bytes out, replies in, in their order.

Replies of the charge script are one string each, and that of ASKING is a word, so there is nothing to gain from a
general parser. Not for: opening (`connecting.py`), and what replies mean (`node.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

_LONGEST_REPLY: Final = 16 << 20
_LONGEST_LINE: Final = 64 << 10


class Refusal(NamedTuple):
    """A reply that says that a command was not carried out.

    Attributes:
        words: the server's; the first is a code such as NOSCRIPT.
    """

    words: str


class Channel(asyncio.Protocol):
    """Sends commands, and tells of each reply."""

    def __init__(
        self,
        writer: asyncio.StreamWriter,
        on_reply: Callable[[bytes | Refusal], None],
        on_lost: Callable[[str], None],
    ) -> None:
        """Takes over an open connection on which nothing is on its way.

        Args:
            writer: of the connection; kept, because it closes the connection when it is freed.
            on_reply: told of the next reply.
            on_lost: told once, why no more replies will come, unless it was closed here.
        """
        self._writer = writer
        self._transport = writer.transport
        self._on_reply = on_reply
        self._on_lost = on_lost
        self._rest = b""
        self._open = True
        self._transport.set_protocol(self)

    def send(self, command: bytes) -> None:
        """Sends bytes; never waits."""
        self._transport.write(command)

    def close(self) -> None:
        """Ends the connection here and now; nothing is told any more."""
        self._open = False
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Tells of every reply that is complete."""
        if self._rest:
            data = self._rest + data
        position = 0
        try:
            while self._open and position < len(data):
                reply, end = next_reply(data, position)
                if reply is None:
                    break
                position = end
                self._on_reply(reply)
        except ValueError as error:
            self._lose(f"nonsense: {error}")
        self._rest = data[position:]

    def connection_lost(self, exception: Exception | None) -> None:
        """Tells that no more replies will come."""
        self._lose(f"lost: {exception or 'the server closed the connection'}")

    def eof_received(self) -> None:
        """Lets the transport close."""

    def _lose(self, why: str) -> None:
        if self._open:
            self.close()
            self._on_lost(why)


def next_reply(data: bytes, position: int) -> tuple[bytes | Refusal | None, int]:
    """The reply that begins at a position, and where it ends; None while it is not complete. A word keeps its `+`.

    Raises:
        ValueError: no reply that the script gives begins so.
    """
    end = data.find(b"\r\n", position, position + _LONGEST_LINE)
    if end < 0:
        if len(data) - position >= _LONGEST_LINE or data[position] not in b"$-+":
            raise ValueError(f"a reply begins with {data[position : position + 32]!r}")
        return None, position
    kind, line = data[position], data[position + 1 : end]
    if kind == ord("-"):
        return Refusal(line.decode("utf-8", "replace")), end + 2
    if kind == ord("+"):
        return data[position:end], end + 2
    if kind != ord("$") or not line.isdigit() or int(line[:9]) > _LONGEST_REPLY or len(line) > 9:
        raise ValueError(f"a reply begins with {data[position : position + 32]!r}")
    begin = end + 2
    stop = begin + int(line)
    if len(data) < stop + 2:
        return None, position
    if data[stop : stop + 2] != b"\r\n":
        raise ValueError("a reply is longer than it says")
    return data[begin:stop], stop + 2

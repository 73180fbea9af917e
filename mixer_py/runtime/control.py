"""The line between supervisor and child: JSON objects, one a line, over a socket pair.

It doubles as a life line: when the supervisor dies, however it dies, the child reads the end of the stream.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import signal
import socket
from collections.abc import Mapping, Sequence

from mixer_py.errors import Fault, ProcessError
from mixer_py.runtime import logs

Message = Mapping[str, object]

_LINE_LIMIT = 16 << 20
_PR_SET_PDEATHSIG = 1


class ControlChannel:
    """One end of the line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> ControlChannel:
        """The channel over one end of a socket pair."""
        end.settimeout(0)
        reader, writer = await asyncio.open_connection(sock=end, limit=_LINE_LIMIT)
        return cls(reader, writer)

    async def send(self, message: Message) -> None:
        """Sends one message.

        Raises:
            ProcessError: the other end is gone.
        """
        try:
            self._writer.write(json.dumps(message).encode() + b"\n")
            await self._writer.drain()
        except OSError as error:
            raise ProcessError(f"the control channel is closed: {error}") from error

    async def receive(self) -> Message | None:
        """The next message that wants an answer; None when the other end is gone.

        How to log is told at any time, also while another answer is awaited: that is followed here.
        """
        while True:
            try:
                line = await self._reader.readline()
            except OSError:
                return None
            if not line.endswith(b"\n"):
                return None
            message = json.loads(line)
            if not isinstance(message, dict):
                raise ProcessError(f"the control channel carried {type(message).__name__}, not an object")
            if message.get("command") != logs.COMMAND:
                return message
            logs.follow(message)

    def close(self) -> None:
        """Closes this end."""
        self._writer.close()


def refused(faults: Sequence[Fault]) -> dict[str, object]:
    """A child's answer to a command that it cannot follow."""
    return {
        "event": "refused",
        "faults": [[fault.message, fault.file, fault.line, fault.field, fault.way_out] for fault in faults],
    }


def faults_of(answer: Message) -> Sequence[Fault]:
    """The faults that `refused` carries."""
    sent = answer["faults"]
    return [Fault(*fault) for fault in sent] if isinstance(sent, list) else [Fault(str(sent))]


def die_with_parent() -> None:
    """Asks the kernel for SIGKILL when the parent's thread that started this process ends (prctl(2)).

    A parent that was gone before has closed its end of the control channel, so `receive` tells.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

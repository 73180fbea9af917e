"""One child process: started with a control channel and a table of metrics, watched, ended.

Knows nothing of what the child does.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mixer_py.errors import ConfigurationError, ProcessError
from mixer_py.instruments import Table, TableReader
from mixer_py.runtime.control import ControlChannel, Message, faults_of

_ANSWER_SECONDS = 600.0
"""How long a worker may take to answer: as long as it may load. That it still lives, its heartbeat tells."""
_KILL_AFTER = 1.0
"""Seconds between SIGTERM and SIGKILL for a child that is replaced because it no longer works."""


@dataclass(frozen=True, slots=True)
class ChildProgram:
    """What to start.

    Attributes:
        name: `worker` or `store`, for logs, metrics and file names.
        module: run as `python -m module`.
        arguments: further arguments; secrets never stand among them, `ps` shows them.
    """

    name: str
    module: str
    arguments: Sequence[str] = ()


class Child:
    """A running child."""

    def __init__(
        self, program: ChildProgram, process: asyncio.subprocess.Process, control: ControlChannel, table: Path
    ) -> None:
        self.program = program
        self.process = process
        self.control = control
        self.reader = TableReader(table)
        self._table = table
        self._exited = asyncio.ensure_future(process.wait())

    @classmethod
    async def start(cls, program: ChildProgram, folder: Path) -> Child:
        """Starts the program.

        Args:
            program: what to start.
            folder: private folder for its table.

        Raises:
            ProcessError: it cannot be started.
        """
        table = folder / f"{program.name}-{secrets.token_hex(4)}"
        Table(table).close()  # the supervisor reads it from the start, however early the child dies
        ours, theirs = socket.socketpair()
        try:
            # -P: no module is taken from the folder that mixer happens to be started in.
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", program.module, "--control-fd", str(theirs.fileno()), "--table", str(table),
                *program.arguments, pass_fds=(theirs.fileno(),), stdin=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        except OSError as error:
            ours.close()
            raise ProcessError(f"cannot start the {program.name}: {error}") from error
        finally:
            theirs.close()
        return cls(program, process, await ControlChannel.over(ours), table)

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    async def exited(self) -> int:
        """Waits for the end; the exit code, negative for a signal."""
        return await asyncio.shield(self._exited)

    async def end(self, grace: float, *, first: signal.Signals = signal.SIGTERM) -> int:
        """Asks it to end by a signal, and kills it after `grace` seconds.

        Returns:
            Its exit code.
        """
        self._signal(first)
        try:
            async with asyncio.timeout(grace):
                return await self.exited()
        except TimeoutError:
            self._signal(signal.SIGKILL)
            return await self.exited()

    async def replace(self) -> int:
        """Ends a child that no longer works."""
        return await self.end(_KILL_AFTER)

    def forget(self) -> None:
        """Removes what an ended child leaves."""
        self.control.close()
        self.reader.close()
        for suffix in (".values", ".series"):
            self._table.with_suffix(suffix).unlink(missing_ok=True)
        shutil.rmtree(self._table.with_suffix(".files"), ignore_errors=True)  # what it wrote, if it wrote any

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself in between
            self.process.send_signal(number)


async def ask(child: Child, message: Message) -> Message:
    """Sends a command and waits for its answer.

    Raises:
        ConfigurationError: it refused, with its faults.
        ProcessError: it ended instead.
    """
    await child.control.send(message)
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            answer = await child.control.receive()
    except TimeoutError:
        raise ProcessError(f"the {child.program.name} did not answer {message['command']!r}") from None
    if answer is None:
        raise ProcessError(f"the {child.program.name} ended instead of answering {message['command']!r}")
    if answer["event"] == "refused":
        raise ConfigurationError(faults_of(answer))
    return answer


class BackOff:
    """How long to wait before the next start: longer after each quick end, none after a long life."""

    def __init__(self, now: Callable[[], float], *, first: float = 0.1, longest: float = 5.0) -> None:
        self._now = now
        self._first = first
        self._longest = longest
        self._next = 0.0
        self._started = now()

    def started(self) -> None:
        """A child starts now."""
        self._started = self._now()

    def delay(self) -> float:
        """Seconds to wait, now that the child has ended."""
        if self._now() - self._started > 2 * self._longest:
            self._next = 0.0
        delay, self._next = self._next, min(max(self._first, self._next * 2), self._longest)
        return delay

"""The embedded Valkey as the supervisor sees it: started when several workers count together, and kept running.

It lives until mixer ends, through reloads, takeovers and the replacement of workers. When it dies itself, counters
start anew. Whether it lives is seen from its answers to PING.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Final

import structlog

from mixer_py.config.configuration import Configuration
from mixer_py.errors import ProcessError
from mixer_py.instruments import Clock, Registry
from mixer_py.runtime.child import Child, ChildProgram
from mixer_py.runtime.counters import find_valkey, needs_valkey, require_valkey, valkey_socket
from mixer_py.runtime.metrics import ProcessMetrics
from mixer_py.runtime.role import Role

_BASE_BYTES: Final = 32 << 20
_BYTES_A_COUNTER: Final = 512
"""A counter of an ordinary key takes about 200; the rest is for longer ones and for the table while it grows."""
_START_SECONDS: Final = 60.0
"""On a machine that does much else; it is not looked at as long as it starts."""
_POLL_SECONDS: Final = 0.02
_PING_SECONDS: Final = 0.25
_PING_TIMEOUT: Final = 1.0
_MOST_MISSED: Final = 5
"""Answers missed in a row before it counts as hung: tries and not seconds, because a supervisor that was late itself
makes none."""


class ValkeyRole:
    """The one Valkey of a mixer, if it needs one."""

    def __init__(self, folder: Path, metrics: ProcessMetrics, registry: Registry, clock: Clock) -> None:
        """Prepares; nothing is started before `want`.

        Args:
            folder: private folder for its socket.
            metrics: joined and left by every process.
            registry: the supervisor's own, for restarts.
            clock: for back-off.
        """
        self._socket = valkey_socket(folder)
        self._said = folder / "valkey.log"
        self._folder = folder
        self._make = (metrics, registry, clock)
        self._role: Role | None = None
        self._pulse = _Pulse(self._socket)
        self._memory = 0
        self._pinging: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("runtime").bind(child="valkey")

    async def want(self, configuration: Configuration) -> None:
        """Makes sure that it runs when these settings need it, with the memory that they allow.

        Raises:
            ConfigurationError: it is needed and not installed.
            ProcessError: it does not start.
        """
        require_valkey(configuration)
        if not needs_valkey(configuration):
            return
        self._memory = _BASE_BYTES + configuration.rate_limit.max_counters * _BYTES_A_COUNTER
        if self._role is None:
            await self._start()
        else:
            with contextlib.suppress(ProcessError):  # it is being replaced, and its successor is told when it starts
                await self._bound()

    async def stop(self, grace: float) -> None:
        """Ends it; nobody may count any more."""
        if self._role is not None:
            await self._role.stop(grace)
        if self._pinging is not None:
            self._pinging.cancel()
        if self._watching is not None:
            await self._watching

    async def _start(self) -> None:
        arguments = (
            "--parent", str(os.getpid()), "--program", str(find_valkey()), "--socket", str(self._socket),
            "--log", str(self._said), "--memory", str(self._memory),
        )  # fmt: skip
        program = ChildProgram("valkey", "mixer_py.runtime.valkey", arguments)
        metrics, registry, clock = self._make
        role = Role(
            program, self._folder, metrics, registry, clock, welcome=self._welcome, pulse=lambda _child: self._pulse
        )
        await role.start()
        self._role = role
        self._pinging = asyncio.create_task(self._pulse.beat_for_ever())
        self._watching = asyncio.create_task(role.run())

    async def _welcome(self, child: Child) -> None:
        """Waits until it answers."""
        exited = asyncio.ensure_future(child.exited())
        try:
            await self._until_it_answers(exited)
        finally:
            exited.cancel()
        await self._bound()
        self._pulse.missed = 0
        if self._role is not None:
            self._log.error(
                "all counters of rate limits start anew",
                way_out="see its last words, often memory; runbook MixerWorkerReplaced",
                last_words=self._last_words(),
            )

    async def _until_it_answers(self, exited: asyncio.Future[int]) -> None:
        end = asyncio.get_running_loop().time() + _START_SECONDS
        while True:
            try:
                return await _ask(self._socket, "PING")
            except ProcessError as error:
                if exited.done() or asyncio.get_running_loop().time() > end:
                    words = f"the embedded Valkey does not start; its last words: {self._last_words()!r}"
                    raise ProcessError(words) from error
            await asyncio.sleep(_POLL_SECONDS)

    async def _bound(self) -> None:
        await _ask(self._socket, "CONFIG", "SET", "maxmemory", str(self._memory))

    def _last_words(self) -> str:
        try:
            lines = self._said.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""


class _Pulse:
    """Asks again and again.

    Attributes:
        missed: answers in a row that did not come.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self.missed = 0

    async def beat_for_ever(self) -> None:
        """Asks until it is cancelled."""
        while True:
            try:
                await _ask(self._socket, "PING")
                self.missed = 0
            except ProcessError:
                self.missed += 1
            await asyncio.sleep(_PING_SECONDS)

    def examine(self, _now: float) -> str | None:
        """See `role.Examined`."""
        return "hung" if self.missed >= _MOST_MISSED else None


async def _ask(socket: Path, *words: str) -> None:
    """Sends a command that is answered by one line; a connection for each, so that connecting is tried, too.

    Raises:
        ProcessError: it was not answered in time, or not well.
    """
    command = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in words)
    try:
        async with asyncio.timeout(_PING_TIMEOUT):
            answer = await _exchange(socket, command)
    except (OSError, TimeoutError) as error:
        raise ProcessError(f"the embedded Valkey does not answer {words[0]}: {error!r}") from error
    if not answer.startswith(b"+"):
        raise ProcessError(f"the embedded Valkey answered {words[0]} with {answer!r}")


async def _exchange(socket: Path, command: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        writer.write(command)
        return await reader.readline()
    finally:
        writer.close()

"""The process of a candidate policy: workers hand it checks over a unix socket, and it says what it would have decided.

Started by the supervisor as `python -m mixer_py.runtime.shadow`; ends with it. It serves one revision all its life:
another candidate gets a process of its own. Whatever the candidate does happens here: it may stall or end this process,
it is the last to get CPU and the first that the kernel ends when memory is short.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from mixer_py.errors import ConfigurationError, Fault, MixerError
from mixer_py.instruments import Clock, Registry, SystemClock, Table
from mixer_py.instruments.stages import stage_durations
from mixer_py.policy.bundles.bundle import Bundle
from mixer_py.policy.bundles.reading import read_policy
from mixer_py.policy.policy import Policy
from mixer_py.runtime import childhood
from mixer_py.runtime.control import ControlChannel, Message, die_with_parent, refused
from mixer_py.runtime.logs import configure_logs
from mixer_py.runtime.orders import ShadowOrder, read_private, write_private
from mixer_py.runtime.priority import stand_back
from mixer_py.runtime.unix_socket import bind_private
from mixer_py.runtime.vital_signs import VitalSigns
from mixer_py.services.candidate import judge
from mixer_py.services.shadow_frames import CHECK, GOODBYE, encode_verdict

_NICENESS: Final = 10
_FIRST_TO_END: Final = 1000
"""The highest `oom_score_adj` (proc(5))."""
_LEAVE_SECONDS: Final = 2.0
"""How long it answers what it has been asked, once it has to end."""


class ShadowProcess:
    """One candidate's life."""

    def __init__(self, control: ControlChannel, registry: Registry, clock: Clock) -> None:
        self._control = control
        self._clock = clock
        self._vital_signs = VitalSigns(registry)
        stages = stage_durations(registry)
        self._durations = {name: stages.labels("shadow", "total", name) for name in ("allow", "deny", "error")}
        self._policy: Policy | None = None
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._log = structlog.get_logger("shadow")

    async def run(self) -> int:
        """Serves until it is told to end or the supervisor is gone; the exit code."""
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        beating = asyncio.create_task(self._vital_signs.beat_for_ever())
        stopping, obeying = asyncio.create_task(stop.wait()), asyncio.create_task(self._obey_all())
        try:
            await asyncio.wait({stopping, obeying}, return_when=asyncio.FIRST_COMPLETED)
            if not stopping.done():  # the supervisor is gone, so nobody would ever end this process
                obeying.result()
                return 1
            await self._leave()
        finally:
            for task in (beating, stopping, obeying):
                task.cancel()
        return 0

    async def _obey_all(self) -> None:
        while (message := await self._control.receive()) is not None:
            await self._control.send(await self._obey(message))

    async def _obey(self, message: Message) -> Message:
        if message.get("command") != "start" or self._policy is not None:
            return refused([Fault(f"unknown command {message.get('command')!r}, or a second start")])
        path = Path(str(message.get("order")))
        self._vital_signs.loading(now=True)
        try:
            order = read_private(path, ShadowOrder)
            configure_logs(order.log, "shadow")
            bundle = (
                read_policy(order.policy, order.fetched) if order.bundle is None else read_private(order.bundle, Bundle)
            )
            policy = self._policy = Policy.compile(order.policy, bundle, self._vital_signs)
            self._server = await asyncio.start_unix_server(self._serve, sock=bind_private(order.socket))
        except ConfigurationError as error:
            return refused(error.faults)
        except OSError as error:
            return refused([Fault(f"cannot listen: {error}")])
        finally:
            self._vital_signs.loading(now=False)
        policy.open()
        self._log.info("listening", revision=policy.revision)
        return {
            "event": "listening",
            "revision": policy.revision,
            "description": policy.describe(),
            "bundle": str(order.bundle or write_private(bundle, path.parent, "candidate")),
        }

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task, policy = asyncio.current_task(), self._policy
        if task is None or policy is None:  # never: it listens once it has a policy, in a task for each connection
            return
        self._connections[task] = writer
        try:
            while True:
                number, expires, length = CHECK.unpack(await reader.readexactly(CHECK.size))
                message = await reader.readexactly(length)
                if self._clock.monotonic() < expires:  # else nobody waits for it any more, and others do
                    await self._judge(policy, number, message, writer)
                await asyncio.sleep(0)  # so that the loop beats however much there is to read
        except (asyncio.IncompleteReadError, OSError):
            pass  # the worker has hung up
        finally:
            del self._connections[task]
            writer.close()

    async def _judge(self, policy: Policy, number: int, message: bytes, writer: asyncio.StreamWriter) -> None:
        begun = self._clock.monotonic()
        outcome = await judge(policy, message)
        self._durations[outcome.verdict].observe(self._clock.monotonic() - begun)
        writer.write(encode_verdict(number, outcome))
        await writer.drain()

    async def _leave(self) -> None:
        """Tells the workers to go elsewhere, and answers what they have asked."""
        if self._server is not None:
            self._server.close()
        for writer in self._connections.values():
            writer.write(GOODBYE)
        if self._connections:
            await asyncio.wait(set(self._connections), timeout=_LEAVE_SECONDS)


def _end_first() -> None:
    """Is the first to be ended where memory is short."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_FIRST_TO_END), encoding="ascii")


async def _run(control_fd: int, table: Path) -> int:
    control = await ControlChannel.over(socket.socket(fileno=control_fd))
    with contextlib.suppress(MixerError):  # the supervisor is gone in the middle of an answer
        return await ShadowProcess(control, Registry(Table(table)), SystemClock()).run()
    return 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the process; the exit code."""
    die_with_parent()
    stand_back(_NICENESS)
    _end_first()
    options = childhood.command_line("mixer_py.runtime.shadow").parse_args(arguments)
    return childhood.run(_run(options.control_fd, options.table))


if __name__ == "__main__":
    raise SystemExit(main())

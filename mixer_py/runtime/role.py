"""A place that one child after another fills: started, watched, and replaced with back-off until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import structlog

from mixer_py.errors import MixerError, ProcessError
from mixer_py.instruments import Clock, Registry
from mixer_py.runtime.child import BackOff, Child, ChildProgram
from mixer_py.runtime.control import Message
from mixer_py.runtime.metrics import ProcessMetrics
from mixer_py.runtime.vital_signs import Pulse

_EXAMINE_SECONDS = 0.1
ENDS = "mixer ends"
TAKEN = "another has its place by now"
"""Why a child that was to fill a role is ended."""


class Examined(Protocol):
    """Tells whether a child still works."""

    def examine(self, now: float) -> str | None:
        """Why it has to be replaced, as a label; None while it works. `now` is in monotonic seconds."""


class Role:
    """Keeps one child running.

    Attributes:
        child: what fills the role.
        retired: those that filled it before and still have connections, the oldest first.
    """

    def __init__(
        self,
        program: ChildProgram,
        folder: Path,
        metrics: ProcessMetrics,
        registry: Registry,
        clock: Clock,
        *,
        welcome: Callable[[Child], Awaitable[None]],
        max_stall: Callable[[], float] = lambda: math.inf,
        max_hang: float = math.inf,
        pulse: Callable[[Child], Examined] | None = None,
    ) -> None:
        """Prepares a role; `run` fills it.

        Args:
            program: what runs in it.
            folder: private folder for tables.
            metrics: joined and left by every child.
            registry: the supervisor's own, for restarts.
            clock: for heartbeats and back-off.
            welcome: makes a started child ready; whatever it raises ends the child.
            max_stall: seconds of CPU that one evaluation may take, by the settings in force.
            max_hang: seconds that its loop may stand still; while it starts or loads, that it may take no CPU at all.
            pulse: what a child is examined by; by default its vital signs.
        """
        self._program = program
        self._folder = folder
        self._metrics = metrics
        self._clock = clock
        self._welcome = welcome
        self._pulse = pulse or (lambda child: Pulse(child.pid, child.reader, max_stall, max_hang))
        self._attends = pulse is None
        self._restarts = registry.counter(
            "mixer_worker_restarts_total", "Children that were replaced.", ("process", "reason")
        )
        self._log = structlog.get_logger("runtime").bind(child=program.name)
        self._stopping = asyncio.Event()
        self._ready = asyncio.Event()
        self._leaving: set[asyncio.Task[None]] = set()
        self._attending: set[asyncio.Task[None]] = set()
        self._examined: Child | None = None
        """The child that `run` watches, until it watches another."""
        self.child: Child | None = None
        self.retired: list[Child] = []
        self._standing: Message | None = None

    @property
    def ready(self) -> bool:
        """A child fills the role and is ready."""
        return self._ready.is_set()

    async def wait_ready(self, timeout: float) -> None:  # noqa: ASYNC109 (giving up is the normal end here)
        """Waits until a ready child fills the role, but not longer than `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._ready.wait()

    async def start(self) -> None:
        """Fills the role for the first time.

        Raises:
            MixerError: the child did not become ready; it has ended.
        """
        child = await self._start_child()
        try:
            await self._welcome(child)
        except BaseException:
            await child.replace()
            self._leave(child)
            raise
        self._ready.set()

    async def run(self) -> None:
        """Watches the child that `start` began, and its successors, until `stop`."""
        back_off = BackOff(self._clock.monotonic)
        while self.child is not None or not self._stopping.is_set():
            child = self.child
            if child is not None:
                reason = await self._until_it_ends(child)
                if self.child is not child:
                    continue  # another is in the role by now, and this one is seen out
                self._ready.clear()
                self._leave(child)
                if self._stopping.is_set():
                    return
                self._restarts.labels(self._program.name, reason).add()
                self._log.error(
                    "child ended; it is replaced", way_out="runbook MixerWorkerReplaced", reason=reason, pid=child.pid
                )
            await asyncio.sleep(back_off.delay())
            back_off.started()
            await self._try_again()

    async def start_successor(self) -> Child:
        """Starts a child beside the one in the role; the caller makes it ready, and calls `succeed` or `dismiss`.

        Raises:
            ProcessError: it cannot be started.
        """
        child = await Child.start(self._program, self._folder)
        self._metrics.join(child.reader)
        if self._attends:
            attending = asyncio.create_task(self._attend(child))
            self._attending.add(attending)
            attending.add_done_callback(self._attending.discard)
        if self._standing is not None:
            await child.control.send(self._standing)
        return child

    async def tell(self, message: Message) -> None:
        """Tells every child what needs no answer, and those that come later too."""
        self._standing = message
        for child in (self.child, *self.retired):
            if child is not None:
                with contextlib.suppress(ProcessError):  # it has just ended
                    await child.control.send(message)

    async def dismiss(self, successor: Child) -> None:
        """Ends a child that never came into the role."""
        await successor.replace()
        self._forget(successor)

    async def give_way(self) -> None:
        """Ends a child that is to fill the role and is not ready: another is by now, which `succeed` puts there."""
        if self.child is not None and not self.ready:
            await self.child.replace()

    def succeed(self, successor: Child, stay: float, grace: float) -> None:
        """Puts a ready child into the role, also when the one before has died, or its replacement is not ready yet.

        Args:
            successor: from `start_successor`.
            stay: seconds that the one before stays beside it, to end what it has.
            grace: seconds that it then has to end, after SIGTERM.
        """
        before, self.child = self.child, successor
        if before is None or not self.ready:  # what was about to fill the role finds it filled, and ends
            self._ready.set()
            return
        self.retired.append(before)
        leaving = asyncio.create_task(self._see_out(before, stay, grace))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def _see_out(self, child: Child, stay: float, grace: float) -> None:
        over = [asyncio.ensure_future(one) for one in (child.exited(), self._stopping.wait())]
        await asyncio.wait(over, timeout=stay, return_when=asyncio.FIRST_COMPLETED)
        self.retired.remove(child)
        code = await child.end(grace)
        for waiting in over:
            waiting.cancel()
        if code:
            self._log.error(
                "a child that was succeeded did not end well",
                way_out="nothing to do, its successor answers; runbook MixerWorkerReplaced when it happens again",
                pid=child.pid,
                code=code,
            )
        self._forget(child)

    async def stop(self, grace: float) -> int | None:
        """Ends the child for good: SIGTERM, and SIGKILL after `grace` seconds.

        Returns:
            Its exit code; None when there was no child.
        """
        self._stopping.set()
        child = self.child
        code = None if child is None else await child.end(grace)
        await asyncio.gather(*self._leaving)
        return code

    async def _attend(self, child: Child) -> None:
        """Ends a child that hangs before it fills the role, or after: whoever waits for its answer waits no longer."""
        pulse = self._pulse(child)
        exited = asyncio.ensure_future(child.exited())
        while not (await asyncio.wait({exited}, timeout=_EXAMINE_SECONDS))[0]:
            if self._stopping.is_set() or child is self._examined:
                continue  # it has a time to end in, or `run` looks at it
            try:
                fault = pulse.examine(self._clock.monotonic())
            except ProcessError:
                continue  # it has just ended
            if fault is not None:
                self._restarts.labels(self._program.name, fault).add()
                self._log.error(
                    "child hangs beside its role; it is ended",
                    way_out="runbook MixerWorkerReplaced",
                    reason=fault,
                    pid=child.pid,
                )
                await child.replace()

    async def _start_child(self) -> Child:
        child = await self.start_successor()
        if self.child is not None or self._stopping.is_set():  # `stop` found nobody to end while this one was started
            await self.dismiss(child)
            raise ProcessError(TAKEN if self.child is not None else ENDS)
        self.child = child
        return child

    async def _try_again(self) -> None:
        if self._stopping.is_set() or self.child is not None:
            return
        try:
            await self.start()
        except MixerError as error:
            self._log.error(
                "child did not become ready", way_out="the error says what to mend; it is tried again", error=str(error)
            )

    def _leave(self, child: Child) -> None:
        self._forget(child)
        if self.child is child:
            self.child = None

    def _forget(self, child: Child) -> None:
        self._metrics.leave(child.reader)
        child.forget()

    async def _until_it_ends(self, child: Child) -> str:
        """Waits for the child's end, or brings it about; why it ended, or why it need not be watched any more."""
        self._examined, pulse = child, self._pulse(child)
        exited = asyncio.ensure_future(child.exited())
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EXAMINE_SECONDS):
                    code = await asyncio.shield(exited)
                return "killed" if code < 0 else "exited"
            if self.child is not child:
                exited.cancel()
                return "succeeded"
            if self._stopping.is_set():
                continue
            try:
                fault = pulse.examine(self._clock.monotonic())
            except ProcessError:
                continue  # it has just ended; the wait above will say how
            if fault is not None:
                self._ready.clear()
                await child.replace()
                await exited
                return fault

"""The end of a mixer comes at any moment: while a child is being started, and while one is asked in vain."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mixer_py.errors import ProcessError
from mixer_py.instruments import Registry, SystemClock
from mixer_py.runtime import role as module
from mixer_py.runtime.child import Child, ChildProgram
from mixer_py.runtime.metrics import ProcessMetrics
from mixer_py.runtime.role import Role
from mixer_py.runtime.valkey_role import _ask
from tests.parts.mixer_process import is_running

SECONDS = 60.0


async def test_a_child_that_is_started_while_its_role_ends_is_ended(monkeypatch, tmp_path: Path) -> None:
    """`stop` finds nobody to end: the one before has died, and the next is a process that nobody knows yet."""
    begun, goes_on = asyncio.Event(), asyncio.Event()
    started: list[Child] = []
    start = Child.start

    async def start_late(program: ChildProgram, folder: Path) -> Child:
        started.append(await start(program, folder))
        if len(started) > 1:
            begun.set()
            await goes_on.wait()
        return started[-1]

    async def welcome(_child: Child) -> None:
        return

    monkeypatch.setattr(module.Child, "start", start_late)
    program = ChildProgram("patient", "tests.runtime.patient")
    registry = Registry()
    role = Role(program, tmp_path, ProcessMetrics(registry), registry, SystemClock(), welcome=welcome)
    await role.start()
    running = asyncio.create_task(role.run())
    started[0].process.kill()
    await asyncio.wait_for(begun.wait(), SECONDS)
    assert await role.stop(SECONDS) is None
    goes_on.set()
    await asyncio.wait_for(running, SECONDS)
    assert not is_running(started[1].pid)


@pytest.mark.parametrize("steps", range(8))
async def test_who_asks_a_valkey_that_is_gone_can_be_cancelled_at_any_moment(tmp_path: Path, steps: int) -> None:
    asking = asyncio.create_task(_ask(tmp_path / "nobody.sock", "PING"))
    for _ in range(steps):
        await asyncio.sleep(0)
    cancelled = asking.cancel()
    try:
        await asking
    except ProcessError:
        assert not cancelled, "it has ended by itself before"
    except asyncio.CancelledError:
        assert cancelled

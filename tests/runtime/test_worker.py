from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import pytest

from mixer_py.config import load
from mixer_py.instruments import Table
from mixer_py.runtime.control import ControlChannel
from mixer_py.runtime.orders import WorkerOrder, write_private

GOOD = "package envoy.authz\nimport rego.v1\nallow := {allowed}\n"


class Worker:
    """A real worker process, as the supervisor would run it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.policy = folder / "policy.rego"

    async def start(self) -> None:
        table = self._folder / "table"
        Table(table).close()
        ours, theirs = socket.socketpair()
        arguments = ("--control-fd", str(theirs.fileno()), "--table", str(table))
        with (self._folder / "log").open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "mixer_py.runtime.worker", *arguments, pass_fds=(theirs.fileno(),), stderr=log
            )
        theirs.close()
        self.control = await ControlChannel.over(ours)

    async def ask(self, command: str, sources: str | None = None) -> dict[str, object]:
        overrides = {
            "policy.bundles": f"['{self.policy}']",
            "server.listeners": f"[{{address: 'unix://{self._folder}/s'}}]",
        }
        configuration = load(None, {}, overrides)
        order = write_private(
            WorkerOrder(configuration, None, Path(sources) if sources else None), self._folder, "order"
        )
        await self.control.send({"command": command, "order": str(order)})
        answer = await asyncio.wait_for(self.control.receive(), 60)
        assert answer is not None
        return dict(answer)


@pytest.fixture
async def worker(tmp_path: Path):
    running = Worker(tmp_path)
    running.policy.write_text(GOOD.format(allowed="true"))
    await running.start()
    yield running
    if running.process.returncode is None:
        running.process.kill()
    await running.process.wait()
    running.control.close()


def faults(answer: dict[str, object]) -> str:
    assert answer["event"] == "refused"
    return str(answer["faults"])


async def test_a_worker_prepares_beside_and_activates_or_discards(worker: Worker) -> None:
    started = await worker.ask("start")
    assert started["event"] == "listening"
    worker.policy.write_text(GOOD.format(allowed="false"))
    prepared = await worker.ask("prepare")
    assert prepared["revision"] != started["revision"]
    assert await worker.ask("discard") == {"event": "discarded"}
    assert "nothing is prepared" in faults(await worker.ask("activate"))
    assert (await worker.ask("prepare"))["revision"] == prepared["revision"]
    assert await worker.ask("activate") == {"event": "activated", "revision": prepared["revision"]}


async def test_what_another_worker_read_is_used_whatever_stands_on_disk(worker: Worker) -> None:
    started = await worker.ask("start")
    worker.policy.write_text("package broken {")
    assert "policy.rego" in faults(await worker.ask("prepare"))
    again = await worker.ask("prepare", sources=str(started["sources"]))
    assert again["revision"] == started["revision"]


async def test_many_reloads_let_go_of_the_engines_before(worker: Worker) -> None:
    await worker.ask("start")
    for number in range(20):
        worker.policy.write_text(GOOD.format(allowed=f"{number} > 3"))
        await worker.ask("prepare")
        assert (await worker.ask("activate"))["event"] == "activated"
    worker.process.terminate()
    assert await asyncio.wait_for(worker.process.wait(), 60) == 0
    assert "another thread" not in (worker._folder / "log").read_text()


async def test_an_unknown_command_is_refused(worker: Worker) -> None:
    await worker.ask("start")
    assert "unknown command 'dance'" in faults(await worker.ask("dance"))


@pytest.mark.parametrize("command", ["prepare", "record", "renew_tls"])
async def test_an_order_that_is_gone_costs_no_worker_and_none_of_its_rows(worker: Worker, command: str) -> None:
    """Mixer was told to end in the middle of a reload, and its supervisor waits for no answer any more."""
    started = await worker.ask("start")
    await worker.control.send({"command": command, "order": str(worker._folder / "gone")})
    answer = await asyncio.wait_for(worker.control.receive(), 60)
    assert answer is not None
    assert "gone cannot be read" in faults(dict(answer))
    assert (await worker.ask("prepare"))["revision"] == started["revision"]


async def test_a_worker_ends_when_its_supervisor_is_gone(worker: Worker) -> None:
    await worker.ask("start")
    worker.control.close()
    assert await asyncio.wait_for(worker.process.wait(), 60) == 1

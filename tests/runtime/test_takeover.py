"""What goes wrong while fresh workers take over from those that answer: no call is left without one, none is left."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse

from mixer_py.config import load
from mixer_py.config.configuration import Configuration
from mixer_py.demo.processes import Ports
from mixer_py.instruments import Registry, SystemClock
from mixer_py.runtime import workers as module
from mixer_py.runtime.child import Child
from mixer_py.runtime.control import Message
from mixer_py.runtime.metrics import ProcessMetrics
from mixer_py.runtime.role import Role
from mixer_py.runtime.workers import Workers
from tests.parts.grpc_client import check_request

SECONDS = 180.0
TOO_LARGE_TO_BUILD_BESIDE = "# " + "x" * 250_000


class Mixer:
    """One worker or more, real, and the part of the supervisor that keeps them."""

    def __init__(self, folder: Path, address: str = "", workers: int = 1) -> None:
        self._policy = folder / "policy.rego"
        self._address = address or f"unix://{folder}/s"
        self._workers = workers
        self.private = folder / "private"
        self.private.mkdir(mode=0o700)
        self.write("0")
        registry = Registry()
        metrics = ProcessMetrics(registry)
        self.workers = Workers(self.configuration(), {}, None, self.private, metrics, registry, SystemClock())

    @property
    def role(self) -> Role:
        return self.workers._roles[0]

    def configuration(self) -> Configuration:
        listeners = f"[{{address: '{self._address}', services: [ext_authz]}}]"
        settings = {"policy.bundles": f"['{self._policy}']", "server.listeners": listeners, "server.max_hang": "1h",
                    "server.workers": str(self._workers)}  # fmt: skip
        return load(None, {}, settings)

    def write(self, version: str) -> None:
        result = f'{{"allowed": true, "reasons": ["version {version}"]}}'
        self._policy.write_text(f"package envoy.authz\n{TOO_LARGE_TO_BUILD_BESIDE}\nallow := {result}\n")

    async def reload(self, version: str) -> None:
        self.write(version)
        await asyncio.wait_for(self.workers.reload(self.configuration(), {}), SECONDS)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Callable[[], Awaitable[str]]]:
        """A connection that asks which version decides."""
        async with grpc.aio.insecure_channel(self._address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            check = channel.unary_unary(
                "/envoy.service.auth.v3.Authorization/Check",
                request_serializer=CheckRequest.SerializeToString,
                response_deserializer=CheckResponse.FromString,
            )

            async def ask() -> str:
                answer = await check(check_request(), timeout=SECONDS, wait_for_ready=True)
                return str(answer.dynamic_metadata.fields["mixer_reasons"].string_value)

            yield ask

    async def version(self) -> str:
        async with self.connected() as ask:
            return await ask()


@pytest.fixture
async def mixer(tmp_path: Path) -> AsyncIterator[Mixer]:
    running = Mixer(tmp_path)
    await running.workers.start({})
    yield running
    assert await asyncio.wait_for(running.workers.stop(SECONDS), SECONDS)
    assert list(running.private.glob("worker-*.series")) == [], "every worker has ended, and its metrics were read"


def before(monkeypatch: pytest.MonkeyPatch, command: str, act: Callable[[], Awaitable[object]]) -> None:
    """Acts once, before this command is sent."""
    ask, acts = module.ask, [act]

    async def ask_later(child: Child, message: Message) -> Message:
        if message["command"] == command and acts:
            await acts.pop()()
        return await ask(child, message)

    monkeypatch.setattr(module, "ask", ask_later)


async def killed(role: Role) -> None:
    """The worker that answers dies, and another is started in its place."""
    worker = role.child
    assert worker is not None
    worker.process.kill()
    while role.child in {worker, None}:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("command", ["build", "listen", "forward"])
async def test_a_worker_that_dies_while_another_takes_over_is_succeeded(
    mixer: Mixer, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    before(monkeypatch, command, lambda: killed(mixer.role))
    await mixer.reload("1")
    assert await mixer.version() == "version 1"
    await mixer.role.wait_ready(SECONDS)
    await mixer.reload("2")
    assert await mixer.version() == "version 2"


async def test_what_replaces_a_worker_answers_with_the_revision_before_while_the_next_is_built(
    mixer: Mixer, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions: list[str] = []

    async def kill_and_ask() -> None:
        await killed(mixer.role)
        versions.append(await mixer.version())

    before(monkeypatch, "build", kill_and_ask)
    await mixer.reload("1")
    assert [*versions, await mixer.version()] == ["version 0", "version 1"]


async def test_what_replaces_a_worker_gives_way_when_the_next_revision_is_built_before_it(
    mixer: Mixer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stop() -> None:
        assert mixer.role.child is not None
        mixer.role.child.process.send_signal(signal.SIGSTOP)

    before(monkeypatch, "start", stop)
    before(monkeypatch, "build", lambda: killed(mixer.role))
    await mixer.reload("1")
    assert await mixer.version() == "version 1"


async def test_no_connection_is_ended_before_its_age_however_many_revisions_take_over(mixer: Mixer) -> None:
    """gRPC cancels what reaches a server that stops, so a call of a connection that was idle would be lost."""
    first = mixer.role.child
    async with mixer.connected() as ask:
        for number in range(5):
            assert await ask() == f"version {number}"
            await mixer.reload(str(number + 1))
        assert await ask() == "version 5"
    assert first is not None
    assert first in mixer.role.retired
    assert first.process.returncode is None


async def test_a_large_revision_waits_for_an_earlier_worker_to_end_where_memory_is_short(
    mixer: Mixer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await mixer.reload("1")
    monkeypatch.setattr(module, "_FEW_RETIRED", 1)
    monkeypatch.setattr(module, "free_bytes", lambda: 0)
    reloading = asyncio.create_task(mixer.reload("late"))
    done, _ = await asyncio.wait({reloading}, timeout=3 * module._ROOM_SECONDS)
    assert not done
    assert await mixer.version() == "version 1", "it answers meanwhile"
    mixer.role.retired[0].process.kill()
    await reloading
    assert await mixer.version() == "version late"


async def test_what_would_change_nothing_is_built_by_one_worker_and_taken_over_by_none(
    tmp_path: Path, ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that changes and a SIGHUP that says so are two reloads."""
    mixer = Mixer(tmp_path, f"127.0.0.1:{ports.take()}", workers=2)
    await mixer.workers.start({})
    commands: list[object] = []
    ask = module.ask

    async def remember(child: Child, message: Message) -> Message:
        commands.append(message["command"])
        return await ask(child, message)

    monkeypatch.setattr(module, "ask", remember)
    try:
        await mixer.reload("0")
        assert commands == ["build"]
        assert await mixer.version() == "version 0"
        await mixer.reload("1")
        assert [commands.count(command) for command in ("build", "listen", "inherit")] == [1 + 2, 2, 2]
        assert await mixer.version() == "version 1"
    finally:
        assert await asyncio.wait_for(mixer.workers.stop(SECONDS), SECONDS)


@pytest.mark.parametrize("command", ["build", "forward"])
async def test_no_worker_is_left_when_mixer_ends_while_another_takes_over(
    mixer: Mixer, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    async def end() -> None:
        reloading.cancel()
        await asyncio.sleep(0)

    before(monkeypatch, command, end)
    reloading = asyncio.create_task(mixer.reload("1"))
    with pytest.raises(asyncio.CancelledError):
        await reloading

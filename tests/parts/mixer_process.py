"""A real `mixer serve`, driven as a person or an orchestrator would: files, signals, ports, and the commands."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from prometheus_client.parser import text_string_to_metric_families

from mixer_py.demo.parts import is_ready
from mixer_py.demo.processes import Ports, Program, own_environment
from tests.parts.http_client import Response, request
from tests.parts.programs import Programs

MIXER = (sys.executable, "-m", "mixer_py.cli.main")
VALKEY = "valkey-server"
_SECONDS = 180.0
"""A machine that is shared takes a minute for what takes a second otherwise; only what fails waits so long."""
Found = TypeVar("Found")


def eventually(look: Callable[[], Found | None], what: str, seconds: float = _SECONDS, pause: float = 0.05) -> Found:
    """The first true value of `look()`; an assertion fails when there is none in time. `pause`: seconds in between."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(pause)


class Mixer:
    """One mixer: its folder of files, its ports, its process.

    Attributes:
        logs: where it takes log streams.
    """

    def __init__(self, programs: Programs, ports: Ports, folder: Path) -> None:
        self._programs = programs
        self.folder = folder
        self.grpc = ports.take()
        self.admin = ports.take()
        self.file = folder / "mixer.yaml"
        self.program: Program | None = None
        self.environment: Mapping[str, str] = {}
        """What it is started with, besides this process's own, unless `start` is told otherwise."""
        self._second = ports.take()
        self.logs = self.address
        self._listeners: list[Mapping[str, Any]] = []

    @property
    def address(self) -> str:
        """Where it answers Envoy."""
        return f"127.0.0.1:{self.grpc}"

    @property
    def second(self) -> str:
        """Where it listens, too, after `use_envoy` or `use_both`."""
        return f"127.0.0.1:{self._second}"

    def use_envoy(self, *others: Mapping[str, Any]) -> None:
        """Lets the transport envoy carry what has no streams; those are taken at the second address, with grpcio."""
        streams = {"address": self.second, "services": ["access_log", "reflection"]}
        self._listeners = [{"address": self.address, "transport": "envoy"}, streams, *others]
        self.logs = self.second

    def use_both(self) -> None:
        """Answers with grpcio as always, and at the second address with the transport envoy."""
        self._listeners = [{"address": self.address}, {"address": self.second, "transport": "envoy"}]

    def write(self, name: str, text: str) -> Path:
        """Writes a file of its folder at once, so that it is never seen half written."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.draft")
        draft.write_text(text, encoding="utf-8")
        return draft.replace(path)

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Writes its configuration; the addresses are added."""
        server = {
            "listeners": self._listeners or [{"address": self.address, "services": ["all"]}],
            "admin": f"127.0.0.1:{self.admin}",
            "socket": str(self.folder / "mixer.sock"),
        }
        whole = {**settings, "server": {**server, **settings.get("server", {})}}
        self.write("mixer.yaml", yaml.safe_dump(whole))

    def start(self, *, ready: bool = True, environment: Mapping[str, str] | None = None) -> Program:
        """Starts it; returns when it says that it is ready, unless told not to wait."""
        command = (*MIXER, "serve", "-c", str(self.file))
        whole = self.environment if environment is None else environment
        self.program = self._programs.start(f"mixer-{self.grpc}", command, environment=whole)
        if ready:
            self.program.wait_until(lambda: is_ready(self.admin), _SECONDS)
        return self.program

    @property
    def running(self) -> Program:
        """Its process."""
        assert self.program is not None, "mixer was not started"
        return self.program

    def get(self, path: str) -> Response:
        """A page of its admin address."""
        return request(self.admin, path)

    def metrics(self, beginning: str = "") -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample of /metrics whose name begins so, by name and labels."""
        response = self.get("/metrics")
        assert response.status == 200, response
        lines = response.body.decode().splitlines(keepends=True)
        text = "".join(line for line in lines if line.startswith((beginning, "#")))  # reading all of it takes long
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name that have at least these labels."""
        wanted = labels.items()
        return sum(value for (found, has), value in self.metrics(name).items() if found == name and wanted <= set(has))

    def revision(self) -> str:
        """The revision of the snapshot in force."""
        for (_, labels), value in self.metrics("mixer_snapshot_info").items():
            if value == 1:
                return dict(labels)["revision"]
        raise AssertionError("no mixer_snapshot_info on /metrics")

    def reload(self, change: Callable[[], object], seconds: float = _SECONDS) -> None:
        """Makes a change to its files, and returns when a new revision decides."""
        before = self.revision()
        change()
        self.running.signal(signal.SIGHUP)
        eventually(lambda: self.revision() != before, "a new revision after a reload", seconds)

    def run(self, *arguments: str, seconds: float = _SECONDS) -> subprocess.CompletedProcess[str]:
        """Runs a command of mixer with its configuration: `run("query", "SELECT 1")`."""
        command, *rest = arguments
        return subprocess.run(
            (*MIXER, command, "-c", str(self.file), *rest),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env=own_environment(),
        )

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Rows, by `mixer query`."""
        finished = self.run("query", "--format", "json", sql)
        assert finished.returncode == 0, finished
        return [json.loads(line) for line in finished.stdout.splitlines() if line]

    def row(self, request_id: str, columns: str = "*") -> dict[str, Any]:
        """The row of a request, once it has come. Asks over HTTP, which is quicker than a command."""
        sql = f"SELECT {columns} FROM requests WHERE request_id = '{request_id}'"

        def look() -> list[dict[str, Any]]:
            response = self._ask(sql)
            return [] if response.status == 503 else _objects(response)  # 503: the store is being replaced

        return eventually(look, f"a row of request {request_id}")[0]

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Rows, by the admin page /query."""
        return _objects(self._ask(sql))

    def _ask(self, sql: str) -> Response:
        headers = [("content-type", "application/json")]
        return request(self.admin, "/query", method="POST", headers=headers, body=json.dumps({"sql": sql}).encode())

    def children(self, module: str) -> list[int]:
        """Process ids of its children that run `python -m module`, or a program of that name, by /proc."""
        return [
            pid
            for pid in child_processes(self.running.pid)
            if any(word == module or word.partition(" ")[0].endswith(f"/{module}") for word in command_line(pid))
        ]

    def workers(self, count: int) -> list[int]:
        """Process ids of its workers, once there are so many."""

        def look() -> list[int]:
            found = self.children("mixer_py.runtime.worker")
            return found if len(found) == count else []

        return eventually(look, f"{count} workers")

    def valkey(self) -> int:
        """Process id of its embedded Valkey."""
        (pid,) = eventually(lambda: self.children(VALKEY), "a Valkey")
        return pid

    def connections(self) -> dict[int, int]:
        """How many connections each worker has at the address of Envoy, by process id."""
        inodes = established(self.grpc)
        return {pid: len(inodes & sockets_of(pid)) for pid in self.children("mixer_py.runtime.worker")}

    def worker(self) -> int:
        """Process id of its only worker, once one that has been replaced is gone."""
        (pid,) = self.workers(1)
        return pid

    def store(self) -> int:
        """Process id of its store."""
        (pid,) = eventually(lambda: self.children("mixer_py.runtime.store"), "a store")
        return pid


def _objects(response: Response) -> list[dict[str, Any]]:
    assert response.status == 200, response
    return [json.loads(line) for line in response.body.splitlines() if line]


def established(port: int) -> set[str]:
    """Inodes of the sockets of connections that were made to a port of this machine (proc(5))."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "01" and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found


def sockets_of(pid: int) -> set[str]:
    """What a process has open, as its descriptors name it."""
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError):  # closed meanwhile
            found.add(str(descriptor.readlink()))
    return found


def child_processes(pid: int) -> list[int]:
    """Process ids of the direct children that still run."""
    children = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children += [int(child) for child in task.read_text(encoding="ascii").split()]
        except OSError:  # the thread has ended meanwhile
            continue
    return [child for child in children if is_running(child)]


def command_line(pid: int) -> list[str]:
    """The arguments of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return []


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}

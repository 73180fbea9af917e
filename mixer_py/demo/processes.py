"""Programs that run beside the demo: started on a leash, watched, ended, and their last words quoted.

Also used by the tests. Not for mixer's own workers and store: the supervisor has its own care for those.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mixer_py.errors import ProcessError

_LEASH = Path(__file__).with_name("leash.py")
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_PORTS = range(10_000, 32_000)
_ENOUGH = 2_000
_POLL_SECONDS = 0.05


def listening_ports(lowest: int, highest: int) -> range:
    """Ports to listen on that no outgoing connection is given meanwhile.

    Args:
        lowest: the first port that the kernel gives to outgoing connections (ip_local_port_range).
        highest: the last.

    Returns:
        Those below, or else those above; when there are too few of both, ports that may be given to connections.
    """
    below = range(_PORTS.start, min(lowest, _PORTS.stop))
    above = range(highest + 1, 65_536)
    return next((ports for ports in (below, above) if len(ports) >= _ENOUGH), _PORTS)


class Ports:
    """Hands out TCP ports that nobody uses and that no other `Ports`, in any process, hands out meanwhile.

    A port is claimed by an abstract unix socket of its name, which the kernel drops with the process.
    """

    def __init__(self) -> None:
        lowest, highest = map(int, _EPHEMERAL.read_text(encoding="ascii").split())
        self._ports = listening_ports(lowest, highest)
        self._claims: list[socket.socket] = []
        self._turn = os.getpid() * 37

    def take(self) -> int:
        """A free port of 127.0.0.1.

        Raises:
            ProcessError: there is none.
        """
        for _ in self._ports:
            port = self._ports[self._turn % len(self._ports)]
            self._turn += 1
            if self._claim(port):
                return port
        raise ProcessError(f"no port from {self._ports.start} to {self._ports.stop - 1} is free")

    def _claim(self, port: int) -> bool:
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            claim.bind(f"\0mixer-port-{port}")
            with socket.socket() as probe:  # without SO_REUSEADDR: connections that ended lately count, too
                probe.bind(("", port))
        except OSError:
            claim.close()
            return False
        self._claims.append(claim)
        return True

    def close(self) -> None:
        """Gives all of them back."""
        while self._claims:
            self._claims.pop().close()


class Program:
    """One running program. It gets no terminal signals (Ctrl-C is its starter's business) and dies with its starter."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        death_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = log
        leashed = [
            sys.executable,
            "-I",
            "-S",
            str(_LEASH),
            str(os.getpid()),
            str(int(death_signal)),
            *map(str, command),
        ]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                leashed,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment) if environment is not None else None,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id, also after it has ended."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative is the signal that ended it."""
        return self._process.poll()

    def tail(self, lines: int = 20) -> str:
        """The last lines it wrote."""
        with self.log.open(encoding="utf-8", errors="replace") as text:
            return "".join(deque(text, lines)).rstrip()

    def wait_until(self, ready: Callable[[], bool], seconds: float = 60) -> None:
        """Returns when `ready()` is true.

        Raises:
            ProcessError: the program ended or `seconds` passed before; its last words are in the message.
        """
        end = time.monotonic() + seconds
        while not ready():
            if self.exit_code is not None:
                raise ProcessError(f"{self.name} ended with status {self.exit_code} while it started:\n{self.tail()}")
            if time.monotonic() > end:
                raise ProcessError(f"{self.name} was not ready after {seconds:g} s:\n{self.tail()}")
            time.sleep(_POLL_SECONDS)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, to this process only."""
        self._process.send_signal(number)

    def wait(self, seconds: float) -> int:
        """Its exit status, once it has ended.

        Raises:
            ProcessError: it still runs after `seconds`.
        """
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise ProcessError(f"{self.name} still runs after {seconds:g} s:\n{self.tail()}") from None

    def stop(self, seconds: float = 15) -> int:
        """Ends it: SIGTERM, and SIGKILL to it and its process group after `seconds`. Its exit status."""
        self._process.terminate()
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL to it and its process group. Its exit status."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()


def own_environment() -> dict[str, str]:
    """This process's environment without settings of mixer: a person's own must not change what runs here."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MIXER_")}


def fetch(port: int, path: str, seconds: float = 15) -> tuple[int, bytes]:
    """Status and body of `http://127.0.0.1:port/path`, past any proxy that the environment names.

    Raises:
        OSError: nothing that speaks HTTP answers there.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except http.client.HTTPException as error:
        raise ConnectionError(f"no HTTP response from 127.0.0.1:{port}: {error!r}") from error
    finally:
        connection.close()


def accepts(port: int) -> bool:
    """Whether something listens on that port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0

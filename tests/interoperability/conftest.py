"""The same service behind each transport: every case is written once, and holds for all of them."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mixer_py.demo.processes import Ports
from tests.interoperability.faulty_service import TELL
from tests.parts.programs import Programs
from tests.parts.raw_grpc import SECONDS, message, raw

TRANSPORTS = ("grpcio", pytest.param("envoy", marks=pytest.mark.envoy))


@dataclass(frozen=True, slots=True)
class Service:
    """One that fails on demand (`faulty_service`).

    Attributes:
        address: where it answers.
        transport: what carries its calls.
        log: what it has written to its log.
    """

    address: str
    transport: str
    log: Path

    def told(self) -> dict[str, float]:
        """What became of the calls to it until now, and its counters by name and labels."""
        end = time.monotonic() + SECONDS
        with raw(self.address) as connection:
            while not (answers := connection.call(TELL, message(b"")).messages):  # it still has too many in hand
                assert time.monotonic() < end, f"nothing was told within {SECONDS:g} s"
                time.sleep(0.05)
        return json.loads(answers[0])

    def until(self, holds: Callable[[dict[str, float]], bool]) -> dict[str, float]:
        """What it tells as soon as that holds."""
        end = time.monotonic() + SECONDS
        while not holds(told := self.told()):
            assert time.monotonic() < end, f"not within {SECONDS:g} s; at last it told {told}"
            time.sleep(0.05)
        return told


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


@pytest.fixture(scope="package", params=TRANSPORTS)
def service(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    make_programs: Callable[[Path], Programs],
    ports: Ports,
) -> Iterator[Service]:
    """The service behind one of the transports."""
    transport, port = request.param, ports.take()
    with make_programs(tmp_path_factory.mktemp(transport)) as programs:
        address, files = f"127.0.0.1:{port}", str(programs.folder / "files")
        module = "tests.interoperability.faulty_service"
        program = programs.start(f"faulty-{transport}", (sys.executable, "-m", module, transport, address, files))
        program.wait_until(lambda: _answers(port))
        yield Service(f"127.0.0.1:{port}", transport, program.log)

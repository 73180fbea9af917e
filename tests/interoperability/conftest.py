"""The same service behind each transport: every case is written once, and holds for all of them.

A case is asked over TCP; `everywhere` asks it over unix sockets and TLS as well, for what those could change.
"""

from __future__ import annotations

import json
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from mixer_py.demo.processes import Ports
from tests.interoperability.faulty_service import TELL
from tests.parts.certificates import Authority
from tests.parts.grpc_client import credentials
from tests.parts.programs import Programs
from tests.parts.raw_grpc import SECONDS, RawConnection, dial, message, raw

Way = tuple[str, str]
"""What carries calls, and over what: `tcp`, `unix` or `tls`."""


def _ways(*carriers: str) -> list[object]:
    return [
        pytest.param((transport, carrier), id="-".join((transport, carrier)), marks=marks)
        for transport, marks in (("grpcio", ()), ("envoy", pytest.mark.envoy))
        for carrier in carriers
    ]


everywhere = pytest.mark.parametrize("service", _ways("tcp", "unix", "tls"), indirect=True)


class Certificates:
    """What both sides of TLS show, and who vouches for them: files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.authority.issue("server")
        self.own = self.authority.issue("client")

    def context(self) -> ssl.SSLContext:
        """For a client that speaks HTTP/2."""
        context = ssl.create_default_context(cafile=self.authority.certificate)
        context.load_cert_chain(*self.own)
        context.set_alpn_protocols(["h2"])
        return context


@dataclass(frozen=True, slots=True)
class Service:
    """One that fails on demand (`faulty_service`).

    Attributes:
        address: where it answers.
        transport: what carries its calls.
        log: what it has written to its log.
        certificates: for TLS; None where plaintext is spoken.
    """

    address: str
    transport: str
    log: Path
    certificates: Certificates | None

    def raw(self, *, window: int | None = None) -> AbstractContextManager[RawConnection]:
        """A connection that was greeted; closed at the end."""
        return raw(self.address, window=window, tls=self._tls())

    def dial(self) -> RawConnection:
        """A connection on which nothing was said yet."""
        return dial(self.address, tls=self._tls())

    def channel(self) -> grpc.Channel:
        """A client of gRPC."""
        own = self.certificates
        if own is None:
            return grpc.insecure_channel(self.address)
        return grpc.secure_channel(self.address, credentials(own.authority.certificate, own.own))

    def _tls(self) -> ssl.SSLContext | None:
        return None if self.certificates is None else self.certificates.context()

    def told(self) -> dict[str, float]:
        """What became of the calls to it until now, and its counters by name and labels."""
        end = time.monotonic() + SECONDS
        with self.raw() as connection:
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

    def answers(self) -> bool:
        """Whether somebody listens there."""
        try:
            self.dial().close()
        except OSError:
            return False
        return True


@pytest.fixture(scope="package")
def services(
    tmp_path_factory: pytest.TempPathFactory, make_programs: Callable[[Path], Programs], ports: Ports
) -> Iterator[Callable[[Way], Service]]:
    """The service, started at the first call that is to go that way."""
    running: dict[Way, Service] = {}
    certificates = Certificates(tmp_path_factory.mktemp("certificates"))
    with ExitStack() as stack:

        def find(way: Way) -> Service:
            if way not in running:
                transport, carrier = way
                programs = stack.enter_context(make_programs(tmp_path_factory.mktemp(transport)))
                address = f"unix://{programs.folder}/s" if carrier == "unix" else f"127.0.0.1:{ports.take()}"
                command = [sys.executable, "-m", "tests.interoperability.faulty_service", transport, address]
                command += [programs.folder / "files", *([certificates.folder] if carrier == "tls" else [])]
                program = programs.start(f"faulty-{transport}-{carrier}", command)
                service = Service(address, transport, program.log, certificates if carrier == "tls" else None)
                program.wait_until(service.answers)
                running[way] = service
            return running[way]

        yield find


@pytest.fixture(params=_ways("tcp"))
def service(request: pytest.FixtureRequest, services: Callable[[Way], Service]) -> Service:
    """The service behind one of the transports."""
    return services(request.param)

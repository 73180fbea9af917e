"""The same calls by two clients of gRPC: Python's grpcio, and grpc-go in `go_client`, which scripts/install-servers
builds."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from tests.parts.presence import find_server

_SOURCE = Path(__file__).parent / "go_client"
_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls of one method, all at once and on one connection. Times are milliseconds.

    Attributes:
        method: `/package.Service/Method`.
        message: its bytes.
        calls: how many.
        metadata: bytes of a header beside the usual ones.
        gzip: the message is compressed.
        timeout: when the calls have to end.
        cancel: after which they are given up; 0 for never.
        stream: it is no unary method, or its answer is read by and by.
        pause: before the answer of a stream is read.
    """

    method: str
    message: bytes = b""
    calls: int = 1
    metadata: int = 0
    gzip: bool = False
    timeout: int = 60_000
    cancel: int = 0
    stream: bool = False
    pause: int = 0


@dataclass(frozen=True, slots=True)
class Ending:
    """How they ended.

    Attributes:
        codes: how many ended with each status.
        answers: the messages that came, of all of them.
        details: the words of one that failed.
    """

    codes: Counter[int]
    answers: Sequence[bytes]
    details: str = ""


def by_go(address: str, credentials: Sequence[Path], asked: Sequence[Calls]) -> list[Ending]:
    """What grpc-go gets, one after the other on one connection.

    Args:
        address: `host:port` or `unix:///path`.
        credentials: files of the authority, the own certificate and its key, for TLS; none for plaintext.
        asked: the calls.
    """
    program = find_server("go_client")
    assert program is not None
    written = max(path.stat().st_mtime for path in _SOURCE.iterdir())
    assert program.stat().st_mtime >= written, "run scripts/install-servers: tests/parts/go_client has changed since"
    lines = "".join(
        json.dumps(
            {
                **{name: getattr(one, name) for name in Calls.__slots__},
                "message": base64.b64encode(one.message).decode(),
            }
        )
        + "\n"
        for one in asked
    )
    done = subprocess.run(
        (program, address, *credentials), input=lines, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    return [
        Ending(
            Counter({int(code): count for code, count in one["codes"].items()}),
            [base64.b64decode(answer) for answer in one["answers"] or ()],
            one["details"],
        )
        for one in told
    ]


def by_grpcio(channel: grpc.Channel, asked: Sequence[Calls]) -> list[Ending]:
    """What grpcio gets, one after the other on one connection."""
    return [_ask(channel, one) for one in asked]


def _ask(channel: grpc.Channel, asked: Calls) -> Ending:
    more = {
        "timeout": asked.timeout / 1000,
        "metadata": [("x-large", "x" * asked.metadata)] if asked.metadata else [],
        "compression": grpc.Compression.Gzip if asked.gzip else grpc.Compression.NoCompression,
    }
    if asked.stream:
        method = channel.stream_stream(asked.method)
        running = [method(iter([asked.message]), **more) for _ in range(asked.calls)]
    else:
        method = channel.unary_unary(asked.method)
        running = [method.future(asked.message, **more) for _ in range(asked.calls)]
    time.sleep(max(asked.cancel, asked.pause) / 1000)
    answers: list[bytes] = []
    codes: Counter[int] = Counter()
    details = ""
    for call in running:
        if asked.cancel:
            call.cancel()
        try:
            answers += list(call) if asked.stream else [call.result()]
        except (grpc.RpcError, grpc.FutureCancelledError):
            details = call.details() or ""
        codes[call.code().value[0]] += 1
    return Ending(codes, answers, details)


def by_both(
    address: str, channel: grpc.Channel, credentials: Sequence[Path], asked: Calls, then: Calls
) -> tuple[Ending, Ending]:
    """How calls end for grpcio and for grpc-go, after which one more on the same connection has to succeed."""
    endings = []
    for first, last in (by_grpcio(channel, [asked, then]), by_go(address, credentials, [asked, then])):
        assert last.codes == Counter({0: 1}), last
        endings.append(first)
    grpcio, go = endings
    return grpcio, go

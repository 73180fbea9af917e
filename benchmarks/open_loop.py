"""Requests at a fixed rate, whatever becomes of those before (an open loop), sent by vegeta.

A latency counts from the moment at which its request was to be sent. So a request that waits because the server, or
the client on a busy machine, fell behind is as late as a user would see it. vegeta itself counts from the moment
at which it came to send; the other follows from the request's number and the rate.
Loopback only; a run ends after its seconds.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from load import percentiles
from servers import HERE

_MOST_WORKERS: Final = 2000
"""Requests that wait at one time; a server that does not keep up would be buried otherwise."""
_TIMEOUT: Final = "20s"
_OWN_TOOLS: Final = HERE.parent / ".tools" / "bin"
_GOOD: Final = "200"


@dataclass(frozen=True)
class Sent:
    """What became of one run.

    Attributes:
        requests: how many were sent.
        failed: by their status and what was wrong, those that were not answered with 200.
        latency: milliseconds from the intended moment, by the name of the percentile.
        client: milliseconds by which the client itself came late to send, at the 99th percentile.
    """

    requests: int
    failed: Counter[str]
    latency: dict[str, float]
    client: float


def find_vegeta() -> Path:
    """vegeta's program.

    Raises:
        SystemExit: there is none.
    """
    path = os.pathsep.join((str(_OWN_TOOLS), os.environ.get("PATH", os.defpath)))
    found = shutil.which("vegeta", path=path)
    if found is None:
        raise SystemExit("no vegeta, which sends the requests: install Go and run scripts/install-servers")
    return Path(found)


def send(vegeta: Path, address: str, headers: Sequence[dict[str, str]], rate: int, seconds: float) -> Sent:
    """Sends GETs of one path at a rate, with each of the headers in turn.

    Raises:
        SystemExit: vegeta failed, or sent nothing.
    """
    if not address.startswith("127."):
        raise SystemExit(f"{address} is not a loopback address")
    with tempfile.TemporaryDirectory(prefix="mixer-bench-") as name:
        targets, results = Path(name) / "targets", Path(name) / "results"
        targets.write_text("\n\n".join(_target(address, one) for one in headers) + "\n", encoding="utf-8")
        _run(
            vegeta, "attack", f"-targets={targets}", f"-output={results}", f"-rate={rate}/1s", f"-duration={seconds}s",
            f"-timeout={_TIMEOUT}", f"-max-workers={_MOST_WORKERS}", "-max-body=0", "-redirects=-1",
        )  # fmt: skip
        return read(_run(vegeta, "encode", "-to=csv", str(results)), rate)


def _target(address: str, headers: dict[str, str]) -> str:
    lines = [f"GET http://{address}/reviews/7?page=2", *(f"{name}: {value}" for name, value in headers.items())]
    return "\n".join(lines)


def _run(vegeta: Path, *arguments: str) -> str:
    done = subprocess.run([str(vegeta), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"vegeta {arguments[0]} failed:\n{done.stderr}")
    return done.stdout


def read(table: str, rate: int) -> Sent:
    """What became of a run, from vegeta's CSV: time in ns, status, latency in ns, …, error (6th), …, number (9th).

    Raises:
        SystemExit: it has no line.
    """
    rows = list(csv.reader(table.splitlines()))
    if not rows:
        raise SystemExit("vegeta sent nothing")
    step = 1e9 / rate
    began = min(int(row[0]) - int(row[8]) * step for row in rows)
    late = [(int(row[0]) - int(row[8]) * step - began) / 1e6 for row in rows]
    latencies = [own + int(row[2]) / 1e6 for own, row in zip(late, rows, strict=True)]
    failed = Counter(row[5] or f"status {row[1]}" for row in rows if row[1] != _GOOD)
    return Sent(len(rows), failed, percentiles(latencies), percentiles(late)["p99"])

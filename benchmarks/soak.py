"""`make soak`: the whole of mixer at a steady rate for minutes; memory stays flat, and every request is in every book.

Each request is a check, a rate limit call and a log entry that carries what both answered, as through Envoy. Writes
docs/soak.md and its chart. Ends with 1 when a count does not add up or memory grows. Loopback only; ends by itself.
Not for: how fast it is (`main_job.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import string
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import uvloop
from chart import draw
from circumstances import circumstances
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitResponse
from main_job import mebibytes
from payloads import (
    ACCESS_LOG_METHOD,
    CHECK_METHOD,
    ENTRIES_PER_MESSAGE,
    RATE_LIMIT_METHOD,
    access_log_message,
    check_request,
    rate_limit_request,
)
from servers import HERE, Mixer, memory
from sizes import limit_rules

REPORT = HERE.parent / "docs" / "soak.md"
_DEADLINE = 30.0
_SETTLE_SECONDS = 60.0
_STREAM_SECONDS = 30.0
"""A stream is ended and another opened before its connection reaches its age (`server.max_connection_age`)."""
_GROWTH = 1.1
"""Memory of the last quarter may be so many times that of the second, of each process …"""
_SLACK = 24 << 20
"""… and so many bytes, which allocators keep now and then."""
_SAMPLES = 120


@dataclass
class Soak:
    """What was seen.

    Attributes:
        memory: resident bytes by process, with the second at which they were read.
        sent: requests.
        failed: calls that failed, by the first words of why.
        books: rows by table and state, at the end.
        joined: rows of the view, and how many of them disagree with their decision.
    """

    memory: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    sent: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    books: Counter[tuple[str, str]] = field(default_factory=Counter)
    joined: tuple[int, int] = (0, 0)


class _Client:
    """Envoy, as far as mixer sees of it: one request after the other at a steady pace."""

    def __init__(self, address: str, soak: Soak) -> None:
        self._soak = soak
        self._channel = grpc.aio.insecure_channel(address)
        self._check = self._channel.unary_unary(CHECK_METHOD)
        self._limit = self._channel.unary_unary(RATE_LIMIT_METHOD)
        self._stream = self._channel.stream_unary(ACCESS_LOG_METHOD)
        self._log = self._stream(wait_for_ready=True)
        self._opened = time.perf_counter()
        self._turn = asyncio.Lock()
        self._checked = check_request()
        self._limited = [rate_limit_request(2, number) for number in range(100)]
        self._waiting: list[tuple[CheckResponse, RateLimitResponse]] = []

    async def run(self, seconds: float, rate: int) -> None:
        """Sends for so long, and ends the stream."""
        begun = time.perf_counter()
        under_way: set[asyncio.Task[None]] = set()
        for number in range(int(seconds * rate)):
            await asyncio.sleep(max(0.0, begun + number / rate - time.perf_counter()))
            task = asyncio.create_task(self._one(number))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)
        await self._flush()
        await self._end_stream()
        await self._channel.close()

    async def _one(self, number: int) -> None:
        try:
            checked = CheckResponse.FromString(await self._check(self._checked, timeout=_DEADLINE))
            limited = RateLimitResponse.FromString(
                await self._limit(self._limited[number % len(self._limited)], timeout=_DEADLINE)
            )
        except grpc.aio.AioRpcError as error:
            self._soak.failed[f"{error.code().name}: {error.details()}"[:100]] += 1
            return
        self._waiting.append((checked, limited))
        if len(self._waiting) >= ENTRIES_PER_MESSAGE:
            await self._flush()

    async def _end_stream(self) -> None:
        """Half-closes; the answer says that everything has arrived."""
        await self._log.done_writing()
        await self._log

    async def _flush(self) -> None:
        answers, self._waiting = self._waiting, []
        async with self._turn:
            if time.perf_counter() - self._opened > _STREAM_SECONDS:
                await self._end_stream()
                self._log, self._opened = self._stream(wait_for_ready=True), time.perf_counter()
            await self._send(answers)

    async def _send(self, answers: list[tuple[CheckResponse, RateLimitResponse]]) -> None:
        message = StreamAccessLogsMessage.FromString(access_log_message(0))
        del message.http_logs.log_entry[len(answers) :]
        for entry, (checked, limited) in zip(message.http_logs.log_entry, answers, strict=True):
            entry.common_properties.start_time.FromNanoseconds(time.time_ns())
            entry.request.request_id = "8a7d7a4e-0d1c-9d0e-8b7c-0c5d3c1f2a10"  # as the check says
            metadata = entry.common_properties.metadata.filter_metadata
            metadata["envoy.filters.http.ext_authz"].CopyFrom(checked.dynamic_metadata)
            metadata["envoy.filters.http.ratelimit"].CopyFrom(limited.dynamic_metadata)
        if answers:
            self._soak.sent += len(answers)
            await self._log.write(message.SerializeToString())


async def _watch(soak: Soak, server: Mixer, every: float) -> None:
    begun = time.perf_counter()
    while True:
        for name, pid in server.processes().items():
            sample = (time.perf_counter() - begun + 1, memory(pid)["VmRSS"] / 2**20)
            soak.memory.setdefault(name, []).append(sample)
        await asyncio.sleep(every)


async def soak(server: Mixer, seconds: float, rate: int) -> Soak:
    """Sends, watches, and reads the books once nothing moves."""
    seen = Soak()
    watching = asyncio.create_task(_watch(seen, server, max(seconds / _SAMPLES, 0.25)))
    await _Client(server.address, seen).run(seconds, rate)
    end = time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < end:
        await asyncio.sleep(1.0)
        seen.books = _books(server.metrics())
        if all(seen.books[table, "written"] >= seen.sent for table in ("requests", "decisions")):
            break
    watching.cancel()
    (row,) = server.query("SELECT count() AS rows, countIf(disagrees) AS disagree FROM request_decisions")
    seen.joined = (int(row["rows"]), int(row["disagree"]))
    return seen


def _books(metrics: str) -> Counter[tuple[str, str]]:
    books: Counter[tuple[str, str]] = Counter()
    for line in metrics.splitlines():
        if line.startswith("mixer_rows_total{"):
            labels, _, value = line.rpartition(" ")
            table, state = (labels.partition(f'{name}="')[2].partition('"')[0] for name in ("table", "state"))
            books[table, state] += int(float(value))
    return books


def faults(seen: Soak) -> list[str]:
    """What did not hold."""
    found = [f"{count} calls failed: {why}" for why, count in seen.failed.items()]
    for table in ("requests", "decisions"):
        books = {state: seen.books[table, state] for state in ("received", "written", "dropped")}
        if books != {"received": seen.sent, "written": seen.sent, "dropped": 0}:
            found.append(f"{seen.sent} requests were sent, and the books of {table} say {books}")
    if seen.joined != (seen.sent, 0):
        found.append(f"of {seen.sent} requests the view has {seen.joined[0]}, of which {seen.joined[1]} disagree")
    for name in seen.memory:
        second, last = _quarters(seen, name)
        if last > second * _GROWTH + _SLACK / 2**20:
            found.append(f"{name} grew from {second:.0f} to {last:.0f} MiB")
    return found


def _quarters(seen: Soak, name: str) -> tuple[float, float]:
    """Mean MiB of a process in the second quarter of the time and in the last."""
    samples = [size for _, size in seen.memory[name]]
    quarter = max(len(samples) // 4, 1)
    second, last = samples[quarter : 2 * quarter] or samples, samples[-quarter:]
    return sum(second) / len(second), sum(last) / len(last)


def report(seen: Soak, seconds: float, rate: int, chart: str) -> str:
    """The page, from its template."""
    found = faults(seen)
    rows = "\n".join(
        f"| {name} | {second:.0f} MiB | {last:.0f} MiB | {mebibytes(int(max(size for _, size in samples) * 2**20))} |"
        for name, samples in seen.memory.items()
        for second, last in (_quarters(seen, name),)
    )
    template = string.Template((HERE / "soak.md.template").read_text(encoding="utf-8"))
    return template.substitute(
        **circumstances(),
        seconds=f"{seconds:,.0f}",
        rate=rate,
        sent=f"{seen.sent:,}",
        verdict="Everything held." if not found else "Did not hold: " + "; ".join(found) + ".",
        memory=rows,
        chart=chart,
    )


def main() -> int:
    """Runs, writes, and says what did not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=660.0)
    parser.add_argument("--rate", type=int, default=150, help="requests a second")
    parser.add_argument("--output", type=Path, default=REPORT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mixer-soak-") as folder:
        limits = Path(folder) / "limits.yaml"
        limits.write_text(limit_rules(100), encoding="utf-8")
        with (
            Mixer("mixer", clickhouse=True, rate_limit={"config": [str(limits)]}) as server,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            seen = runner.run(soak(server, options.seconds, options.rate))
    chart = options.output.with_suffix(".svg")
    chart.write_text(
        draw("Resident memory under a steady load", "seconds", "MiB", seen.memory, logarithmic=False), encoding="utf-8"
    )
    options.output.write_text(report(seen, options.seconds, options.rate, chart.name), encoding="utf-8")
    found = faults(seen)
    print("\n".join(found) or f"{seen.sent} requests, and everything held")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""`make bench-main-job`: what a check and a log entry cost in units of the transport's floor; what a worker weighs.

Every figure is a ratio of two servers that were measured in turn in one run, because such a machine's speed moves
by a factor of two from day to day. Writes benchmarks/reports/main-job.md.
Loopback only; ends by itself.
Not for: asserting anything; the tests assert behaviour, never a time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import string
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import figures as beside_report
from circumstances import circumstances
from figures import Figure, figure
from load import PERCENTILES
from servers import HERE, TUTORIAL, Floor, Mixer, Server, cpu_seconds, memory

REPORT = HERE / "reports" / "main-job.md"
NOTHING_BESIDE: Mapping[str, int] = MappingProxyType({})
_WARM_UP_CALLS = 1000
_WARM_UP_MESSAGES = 60
_SETTLE_SECONDS = 3.0
"""After a stream has ended, its last rows are still on their way to the store."""


@dataclass
class Series:
    """What the rounds gave for one server.

    Attributes:
        cpu: microseconds of CPU per call or entry and process, one figure a round.
        latency: milliseconds by the name of the percentile, one figure a round.
        rate: calls or entries a second, one figure a round.
    """

    cpu: dict[str, list[float]] = field(default_factory=dict)
    latency: dict[str, list[float]] = field(default_factory=dict)
    rate: list[float] = field(default_factory=list)

    def median(self, process: str) -> float:
        """Microseconds of one process in the median round."""
        return statistics.median(self.cpu[process])

    def spread(self, process: str) -> str:
        """Least and most of the rounds."""
        values = self.cpu[process]
        return (
            f"{min(values):.0f} to {max(values):.0f}"
            if min(values) >= 10
            else f"{min(values):.1f} to {max(values):.1f}"
        )


def run_load(kind: str, address: str, count: int) -> dict[str, float]:
    """One run of the client; its figures."""
    command = [sys.executable, str(HERE / "load.py"), kind, address, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the client failed against {address}:\n{done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def warm_up(kind: str, address: str, count: int, planned: int) -> None:
    """Sends so many calls before the first that count, unless hardly as many are planned at all."""
    if planned >= count:
        run_load(kind, address, count)


def measure(
    series: Series,
    server: Server,
    kind: str,
    count: int,
    settle: Callable[[], None] | None = None,
    beside: Mapping[str, int] = NOTHING_BESIDE,
) -> None:
    """One round against one server, weighed together with the processes that work for it."""
    processes = {**server.processes(), **beside}
    before = {name: cpu_seconds(pid) for name, pid in processes.items()}
    figures = run_load(kind, server.address, count)
    if settle is not None:
        settle()
    work = figures.get("entries", 0) or figures["calls"]
    if "entries" not in figures and figures["allowed"] != work:
        raise SystemExit(f"{server.name} did not let everything in: {figures}")
    for name, pid in processes.items():
        series.cpu.setdefault(name, []).append((cpu_seconds(pid) - before[name]) / work * 1e6)
    series.rate.append(work / figures["seconds"])
    if "entries" not in figures:
        for name in PERCENTILES:
            series.latency.setdefault(name, []).append(figures[name] * 1e3)


@dataclass
class Results:
    """Everything the report needs."""

    floor: Series = field(default_factory=Series)
    check: Series = field(default_factory=Series)
    evaluated: Series = field(default_factory=Series)
    check_recorded: Series = field(default_factory=Series)
    entries: Series = field(default_factory=Series)
    entries_beside_checks: Series = field(default_factory=Series)
    unread: Series = field(default_factory=Series)
    idle: dict[str, int] = field(default_factory=dict)
    loaded: dict[str, int] = field(default_factory=dict)
    stored: dict[str, int] = field(default_factory=dict)


def run(rounds: int, calls: int, messages: int) -> Results:
    """All rounds, floor and mixer in turn."""
    results = Results()
    with ExitStack() as stack:
        floor = stack.enter_context(Floor())
        plain = stack.enter_context(Mixer("mixer", clickhouse=False))
        uncached = stack.enter_context(Mixer("mixer without a cache", policy={**TUTORIAL, "cache": {"entries": 0}}))
        recording = stack.enter_context(Mixer("mixer with ClickHouse", clickhouse=True))
        results.idle = {name: memory(pid)["VmRSS"] for name, pid in plain.processes().items()}
        checked = (
            (results.floor, floor),
            (results.check, plain),
            (results.evaluated, uncached),
            (results.check_recorded, recording),
        )
        for _, server in checked:
            warm_up("check", server.address, _WARM_UP_CALLS, calls)
        run_load("access-log", recording.address, _WARM_UP_MESSAGES)
        time.sleep(_SETTLE_SECONDS)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", flush=True)
            for series, server in checked:
                measure(series, server, "check", calls, settle=_settle if server is recording else None)
            measure(results.unread, floor, "access-log", messages)
            measure(results.entries, recording, "access-log", messages, settle=_settle)
            beside = results.entries_beside_checks
            measure(beside, recording, "access-log-beside-checks", messages, settle=_settle)
        results.loaded = {name: memory(pid)["VmRSS"] for name, pid in plain.processes().items()}
        results.stored = {name: memory(pid)["VmHWM"] for name, pid in recording.processes().items()}
        _nothing_was_lost(recording, 2 * rounds * messages + _WARM_UP_MESSAGES)
    return results


def _settle() -> None:
    time.sleep(_SETTLE_SECONDS)


def _nothing_was_lost(server: Mixer, messages: int) -> None:
    """Figures of rows that were dropped would be worth nothing."""
    from payloads import ENTRIES_PER_MESSAGE  # noqa: PLC0415 (imports protobuf's tables, which only this needs)

    written = 0.0
    for line in server.metrics().splitlines():
        if line.startswith("mixer_rows_total{") and 'table="requests"' in line and 'state="written"' in line:
            written += float(line.rpartition(" ")[2])
    if written != messages * ENTRIES_PER_MESSAGE:
        raise SystemExit(f"{messages * ENTRIES_PER_MESSAGE} entries were sent and {written:.0f} rows written")


def check_row(name: str, series: Series, process: str, floor: float) -> str:
    """One line of the table of checks."""
    cost = series.median(process)
    latencies = (f"{statistics.median(series.latency[name]):.2f}" for name in PERCENTILES)
    cells = (f"{cost:.0f}", series.spread(process), f"{cost / floor:.2f}", *latencies,
             f"{statistics.median(series.rate):,.0f}")  # fmt: skip
    return f"| {name} | " + " | ".join(cells) + " |"


CHECK_HEADS = (
    "| server | CPU µs (median round) | least to most | in floors | p50 ms | p95 ms | p99 ms | p99.9 ms | a second |\n"
    "|---|---|---|---|---|---|---|---|---|"
)
"""Above rows of `check_row`."""


def check_figures(
    name: str, title: str, series: Series, process: str, floor: Sequence[float], section: str
) -> list[Figure]:
    """The figures of such a line: its cost in floors, and its latencies.

    Args:
        name: of the figures' names the first part.
        title: of the line.
        series: what the rounds gave.
        process: the one that answers.
        floor: microseconds of the floor, one figure a round.
        section: heading under which the line stands.
    """
    ratios = tuple(own / other for own, other in zip(series.cpu[process], floor, strict=True))
    value = series.median(process) / statistics.median(floor)
    latencies = [
        figure(f"{name}.{one}", f"{title}: {one}", "ms", rounds, section) for one, rounds in series.latency.items()
    ]
    rate = figure(f"{name}.rate", f"{title}: calls a second", "1/s", series.rate, section, more_is_better=True)
    cost = figure(f"{name}.cpu", f"{title}: CPU", "µs", series.cpu[process], section)
    return [Figure(f"{name}.floors", title, "floors", value, ratios, section), cost, *latencies, rate]


def entry_row(name: str, series: Series, process: str, floor: float) -> str:
    """One line of the table of entries."""
    cost = series.median(process)
    return f"| {name} | {cost:.1f} | {series.spread(process)} | {cost / floor:.3f} |"


def mebibytes(size: int) -> str:
    """Bytes for people."""
    return f"{size / 2**20:.0f} MiB"


def summary(results: Results) -> str:
    """The paragraph that the README repeats."""
    floor, worker, evaluated, entry = (
        results.floor.median("floor"),
        results.check.median("worker"),
        results.evaluated.median("worker"),
        results.entries.median("worker"),
    )
    beside = results.entries_beside_checks.median("worker")
    p50, p99 = (statistics.median(results.check.latency[name]) for name in ("p50", "p99"))
    worker_memory, store_memory = mebibytes(results.loaded["worker"]), mebibytes(results.stored["store"])
    text = (
        f"A check by a policy in the form of OPA's Envoy tutorial costs {worker:.0f} µs of CPU when its decision is in "
        f"the cache and {evaluated:.0f} µs when it is evaluated, {worker / floor:.2f} and {evaluated / floor:.2f} "
        f"times the floor: a Python gRPC server that only parses the request and answers a constant ({floor:.0f} µs). "
        f"From the cache, with 8 checks in flight on two processors, client included, p50 is {p50:.1f} ms and "
        f"p99 {p99:.1f} ms. An access-log entry costs {entry:.0f} µs ({entry / floor:.3f} floors) until it is "
        f"counted in Istio's metrics and handed to ClickHouse, and {beside:.0f} µs ({beside / floor:.3f}) where checks "
        f"come as well. One worker takes {worker_memory}, embedded "
        f"ClickHouse {store_memory} in a process of its own."
    )
    return textwrap.fill(text, 120)


def report(results: Results, rounds: int, calls: int, messages: int) -> str:
    """The report, from its template."""
    floor = results.floor.median("floor")
    from payloads import ENTRIES_PER_MESSAGE  # noqa: PLC0415 (as above)

    template = string.Template((HERE / "report.md.template").read_text(encoding="utf-8"))
    return template.substitute(
        **circumstances(),
        load=f"{os.getloadavg()[2]:.1f}",
        summary=summary(results),
        rounds=rounds,
        calls=f"{calls:,}",
        messages=f"{messages:,}",
        entries=f"{messages * ENTRIES_PER_MESSAGE:,}",
        checks="\n".join(
            (
                CHECK_HEADS,
                check_row("floor", results.floor, "floor", floor),
                check_row("mixer, tutorial policy, decided from the cache", results.check, "worker", floor),
                check_row("the same without a cache: evaluated each time", results.evaluated, "worker", floor),
                check_row("cached, and every decision kept in ClickHouse", results.check_recorded, "worker", floor),
            )
        ),
        store_per_check=f"{results.check_recorded.median('store'):.0f}",
        log_entries="\n".join(
            (
                entry_row("floor: the stream is received and thrown away", results.unread, "floor", floor),
                entry_row(
                    "worker: stream → columns → Istio's metrics → block for ClickHouse",
                    results.entries,
                    "worker",
                    floor,
                ),
                entry_row(
                    "the same, where checks come as well: smaller slices",
                    results.entries_beside_checks,
                    "worker",
                    floor,
                ),
                entry_row("store: block → verified part of a table", results.entries, "store", floor),
            )
        ),
        entry_rate=f"{statistics.median(results.entries.rate):,.0f}",
        idle=mebibytes(results.idle["worker"]),
        loaded=mebibytes(results.loaded["worker"]),
        supervisor=mebibytes(results.loaded["supervisor"]),
        store=mebibytes(results.stored["store"]),
    )


def figures_of(results: Results) -> list[Figure]:
    """Every figure of the report."""
    floor = results.floor.cpu["floor"]
    found: list[Figure] = []
    for name, title, series, process in (
        ("floor", "floor", results.floor, "floor"),
        ("check.cached", "check, decision cached", results.check, "worker"),
        ("check.evaluated", "check, evaluated", results.evaluated, "worker"),
        ("check.recorded", "check, cached and recorded", results.check_recorded, "worker"),
    ):
        found += check_figures(name, title, series, process, floor, "A check")
    for name, title, series, process in (
        ("entry", "log entry, worker", results.entries, "worker"),
        ("entry.beside_checks", "log entry beside checks, worker", results.entries_beside_checks, "worker"),
        ("entry.store", "log entry, store", results.entries, "store"),
    ):
        ratios = tuple(own / other for own, other in zip(series.cpu[process], floor, strict=True))
        value = series.median(process) / results.floor.median("floor")
        found.append(Figure(f"{name}.floors", title, "floors", value, ratios, "An access-log entry"))
    for name, size in (
        ("worker.idle", results.idle["worker"]),
        ("worker.loaded", results.loaded["worker"]),
        ("supervisor", results.loaded["supervisor"]),
        ("store", results.stored["store"]),
    ):
        found.append(figure(f"memory.{name}", f"memory, {name}", "MiB", [size / 2**20], "Memory"))
    return found


def main() -> None:
    """Measures and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=8000, help="checks a round and server")
    parser.add_argument("--messages", type=int, default=6000, help="access-log messages a round")
    parser.add_argument("--output", type=Path, default=REPORT)
    options = parser.parse_args()
    results = run(options.rounds, options.calls, options.messages)
    text = report(results, options.rounds, options.calls, options.messages)
    options.output.write_text(text, encoding="utf-8")
    beside_report.write(options.output, REPORT.stem, summary(results), figures_of(results))
    print(text)


if __name__ == "__main__":
    main()

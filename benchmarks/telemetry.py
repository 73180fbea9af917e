"""`make bench-telemetry`: what a log entry costs from stream to store, where, and as label sets and streams grow.

Every figure is of one run in which the floor and all servers were measured in turn. Writes
benchmarks/reports/telemetry.md and its charts. Loopback only; ends by itself.
Not for: asserting a speed, or checks (`main_job.py`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import string
import subprocess
import sys
import textwrap
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import figures as beside_report
from chart import draw
from circumstances import circumstances
from figures import Figure, figure
from log_stages import USER_METRICS
from main_job import Series, entry_row, measure, mebibytes
from servers import HERE, Floor, Mixer, Server, cpu_seconds, memory
from store_parts import PARTS

REPORT = HERE / "reports" / "telemetry.md"
LABEL_SETS = (10, 100, 1_000, 10_000)
STREAMS = (1, 4, 16, 64)
BUDGET = 0.08
"""Floors an entry (DESIGN 6)."""
_USUAL_SETS = 100
_STEADY_RATE = 1_000
_WRITTEN_SECONDS = 60.0
_MERGES_SECONDS = 2.0
"""What the store still does when every row is written."""
_STAGES = {
    "read": "bytes to Arrow: a projection of Envoy's messages",
    "columns": "to the columns of a row",
    "metrics": "Istio's metrics, by group",
    "check": "check of every column before it is queued",
    "block": "copy into a block for the store",
}
_IN_SERVER = {"decode": "bytes to columns", "metrics": "Istio's metrics", "queue": "check and queue"}
_PARTS = {
    "insert": "blocks are inserted, nothing else",
    "checked": "and each part is checked on disk",
    "rolled-up": "and three roll-ups are fed",
    "merged": "and parts are merged",
}
LINES = {
    "unread": ("floor: the stream is received and thrown away", "floor"),
    "plain": ("worker without ClickHouse: stream → columns → Istio's metrics", "worker"),
    "recording": ("worker with ClickHouse: the same → block for the store", "worker"),
    "store": ("store: block → verified part of a table, roll-ups, merges", "store"),
    "tcp": ("worker with ClickHouse, TCP", "worker"),
    "steady": (f"worker with ClickHouse, {_STEADY_RATE:,} entries a second", "worker"),
}


@dataclass
class Results:
    """Everything the report needs; microseconds of CPU an entry, one figure a round.

    Attributes:
        check: of the floor, which is the unit.
        lines: by key of `LINES`.
        in_server: by stage as the server's own metrics have it, under load.
        alone: by number of label sets, of `log_stages.py`.
        parts: by name, of `store_parts.py`, one for each round.
        sets: worker without ClickHouse, by number of label sets.
        streams: idem, by number of streams.
        idle, loaded: resident bytes by process, without and with ClickHouse.
    """

    check: Series = field(default_factory=Series)
    lines: dict[str, Series] = field(default_factory=lambda: {key: Series() for key in LINES})
    in_server: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in _IN_SERVER})
    alone: dict[int, dict[str, float]] = field(default_factory=dict)
    parts: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    sets: dict[int, Series] = field(default_factory=dict)
    streams: dict[int, Series] = field(default_factory=dict)
    idle: dict[str, int] = field(default_factory=dict)
    loaded: dict[str, int] = field(default_factory=dict)


def send(series: Series, server: Server, messages: int, kind: str = "http", streams: int = 1,
         label_sets: int = _USUAL_SETS, rate: float = 0.0) -> float:  # fmt: skip
    """One round of one load against one server; how many entries it had."""
    processes = server.processes()
    before = {name: cpu_seconds(pid) for name, pid in processes.items()}
    written = _written(server) if "store" in processes else 0.0
    figures = script("log_load.py", server.address, kind, messages, streams, label_sets, rate)
    entries = figures["entries"]
    if "store" in processes:
        _until_written(server, written + entries)
    for name, pid in processes.items():
        series.cpu.setdefault(name, []).append((cpu_seconds(pid) - before[name]) / entries * 1e6)
    series.rate.append(entries / figures["seconds"])
    return entries


def script(name: str, *arguments: object) -> dict[str, float]:
    """What one of the programs beside this one prints."""
    command = [sys.executable, str(HERE / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def run(rounds: int, messages: int, label_sets: tuple[int, ...], streams: tuple[int, ...], blocks: int) -> Results:
    """Everything, in turn."""
    results = Results()
    prometheus = {"max_label_sets": 2 * max(label_sets)}
    with ExitStack() as stack:
        floor = stack.enter_context(Floor())
        plain = stack.enter_context(Mixer("mixer"))
        # Its /metrics is never read: 10,000 label sets are 700,000 lines.
        crowded = stack.enter_context(Mixer("mixer of many label sets", telemetry={"prometheus": prometheus}))
        recording = stack.enter_context(Mixer("mixer with ClickHouse", clickhouse=True))
        results.idle = weigh(plain, recording)
        for server in (plain, recording):
            send(Series(), server, messages // 10 + 1)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", flush=True)
            against_the_floor(results, floor, plain, recording, messages)
            grow(results, crowded, messages, label_sets, streams)
        results.loaded = weigh(plain, recording)
    for size in label_sets:
        results.alone[size] = script("log_stages.py", size)
    for _ in range(min(rounds, 2)):
        for part in PARTS:
            results.parts.setdefault(part, []).append(script("store_parts.py", part, 10_000, blocks))
    return results


def against_the_floor(results: Results, floor: Floor, plain: Mixer, recording: Mixer, messages: int) -> None:
    """One round of the first table."""
    lines = results.lines
    measure(results.check, floor, "check", max(messages * 2, 200))
    send(lines["unread"], floor, messages)
    send(lines["plain"], plain, messages)
    before = _stages(recording)
    entries = send(lines["recording"], recording, messages)
    for stage, seconds in _stages(recording).items():
        results.in_server[stage].append((seconds - before[stage]) / entries * 1e6)
    lines["store"].cpu["store"] = lines["recording"].cpu["store"]
    send(lines["tcp"], recording, messages // 2 + 1, kind="tcp")
    send(lines["steady"], recording, messages // 8 + 1, rate=_STEADY_RATE)


def grow(
    results: Results, crowded: Mixer, messages: int, label_sets: tuple[int, ...], streams: tuple[int, ...]
) -> None:
    """One round of the charts."""
    for size in label_sets:
        series = results.sets.setdefault(size, Series())
        if not series.cpu:  # the first time, series are made: once in a process's life
            send(Series(), crowded, size // 16 + 1, label_sets=size)
        send(series, crowded, messages, label_sets=size)
    for count in streams:
        send(results.streams.setdefault(count, Series()), crowded, messages, streams=count)


def weigh(plain: Mixer, recording: Mixer) -> dict[str, int]:
    """Resident bytes now."""
    found = {name: memory(pid)["VmRSS"] for name, pid in plain.processes().items()}
    return found | {f"{name} with ClickHouse": memory(pid)["VmRSS"] for name, pid in recording.processes().items()}


def _written(server: Server) -> float:
    """Rows that are written by now, of all tables."""
    assert isinstance(server, Mixer)  # a floor has no store
    return _sum(server, "mixer_rows_total{", 'state="written"')


def _until_written(server: Server, rows: float) -> None:
    """Waits for the store: figures of rows that were dropped would be worth nothing."""
    deadline = time.monotonic() + _WRITTEN_SECONDS
    while _written(server) < rows:
        if time.monotonic() > deadline:
            raise SystemExit(f"{_written(server):.0f} rows of {rows:.0f} are written:\n{server.last_words()}")
        time.sleep(0.2)
    time.sleep(_MERGES_SECONDS)


def _stages(server: Mixer) -> dict[str, float]:
    """Seconds that the stages of log entries have taken."""
    name = "mixer_stage_duration_seconds_sum{"
    return {stage: _sum(server, name, 'service="access_log"', f'stage="{stage}"') for stage in _IN_SERVER}


def _sum(server: Mixer, name: str, *labels: str) -> float:
    lines = (line for line in server.metrics().splitlines() if line.startswith(name))
    return sum(float(line.rpartition(" ")[2]) for line in lines if all(label in line for label in labels))


def line_rows(results: Results) -> str:
    """The table against the floor."""
    floor = results.check.median("floor")
    return "\n".join(entry_row(LINES[key][0], series, LINES[key][1], floor) for key, series in results.lines.items())


def stage_rows(results: Results) -> str:
    """The table of stages, alone."""
    alone = results.alone[min(results.alone, key=lambda size: abs(size - _USUAL_SETS))]
    return "\n".join(f"| {title} | {alone[stage]:.2f} |" for stage, title in _STAGES.items())


def server_rows(results: Results) -> str:
    """The table of stages in a server."""
    rows = [f"| {title} | `{stage}` | {statistics.median(results.in_server[stage]):.1f} |"
            for stage, title in _IN_SERVER.items()]  # fmt: skip
    return "\n".join(rows)


def part_rows(results: Results) -> str:
    """The table of the store's parts: each line does what the one before does, and one thing more."""
    rows, before = [], 0.0
    for part, title in _PARTS.items():
        cost = statistics.median(_cost(one) for one in results.parts[part])
        rows.append(f"| {title} | {cost:.1f} | {cost - before:+.1f} |")
        before = cost
    return "\n".join(rows)


def _cost(parts: dict[str, float]) -> float:
    return parts["inserting"] + parts["afterwards"]


def user_rows(results: Results) -> str:
    """The table of users' own metrics."""
    sizes = sorted(results.alone)
    return "\n".join(
        f"| {name} | " + " | ".join(f"{results.alone[size][name]:.2f}" for size in sizes) + " |"
        for name in USER_METRICS
    )


def growth_rows(by_size: dict[int, Series], floor: float) -> str:
    """A table of growth."""
    rows = [(size, series.median("worker")) for size, series in sorted(by_size.items())]
    return "\n".join(f"| {size:,} | {cost:.1f} | {cost / floor:.3f} |" for size, cost in rows)


def memory_rows(results: Results) -> str:
    """The table of memory."""
    return "\n".join(
        f"| {name} | {mebibytes(results.idle[name])} | {mebibytes(results.loaded[name])} |" for name in results.idle
    )


def charts(results: Results) -> dict[str, str]:
    """SVG by file name."""
    sets = [(float(size), series.median("worker")) for size, series in sorted(results.sets.items())]
    alone = [(float(size), sum(stages[stage] for stage in _STAGES)) for size, stages in sorted(results.alone.items())]
    streams = [(float(count), series.median("worker")) for count, series in sorted(results.streams.items())]
    lines = {"a worker": sets, "its stages, alone": alone}
    return {
        "telemetry-label-sets.svg": draw("An entry as label sets grow", "sets of Istio's labels", "CPU µs", lines),
        "telemetry-streams.svg": draw("An entry as streams grow", "streams", "CPU µs", {"a worker": streams}),
    }


def summary(results: Results) -> str:
    """What matters of it."""
    floor = results.check.median("floor")
    plain, recording = (results.lines[key].median("worker") for key in ("plain", "recording"))
    few, many = (results.sets[size].median("worker") for size in (min(results.sets), max(results.sets)))
    kept = "is kept" if recording / floor <= BUDGET else "is missed"
    text = (
        f"An entry costs a worker {recording:.1f} µs, {recording / floor:.3f} floors, until it is counted in Istio's "
        f"metrics and handed to ClickHouse; the budget of {BUDGET} {kept}. Without ClickHouse it is {plain:.1f} µs. "
        f"The embedded ClickHouse spends {results.lines['store'].median('store'):.1f} µs a row in a process of its "
        f"own. With {max(results.sets):,} label sets an entry costs {many / few:.1f} times what it costs with "
        f"{min(results.sets)}."
    )
    return textwrap.fill(text, 120)


def figures_of(results: Results) -> list[Figure]:
    """Every figure of the report."""
    floor, found = results.check.cpu["floor"], []
    for key, (title, process) in LINES.items():
        rounds = results.lines[key].cpu[process]
        ratios = [own / other for own, other in zip(rounds, floor, strict=True)]
        found.append(figure(f"entry.{key}.floors", title, "floors", ratios, "Against the floor"))
        found.append(figure(f"entry.{key}.cpu", f"{title}: CPU", "µs", rounds, "Against the floor"))
    for name, by_size in (("label-sets", results.sets), ("streams", results.streams)):
        for size, series in by_size.items():
            ratios = [own / other for own, other in zip(series.cpu["worker"], floor, strict=True)]
            section = f"As {name.replace('-', ' ')} grow"
            found.append(figure(f"{name}.{size}", f"entry, {size:,} {name}", "floors", ratios, section))
    for part, title in _PARTS.items():
        costs = [_cost(one) for one in results.parts[part]]
        found.append(figure(f"store.{part}", f"row: {title}", "µs", costs, "Where the store's time goes"))
    for name, size in results.loaded.items():
        found.append(figure(f"memory.{name}", f"{name}, after the load", "MiB", [size / 2**20], "Memory"))
    return found


def report(results: Results, rounds: int, messages: int, blocks: int) -> str:
    """The report, from its template."""
    floor = results.check.median("floor")
    sizes = sorted(results.alone)
    template = string.Template((HERE / "telemetry.md.template").read_text(encoding="utf-8"))
    return template.substitute(
        **circumstances(),
        summary=summary(results),
        floor=f"{floor:.0f}",
        lines=line_rows(results),
        rate=f"{statistics.median(results.lines['plain'].rate):,.0f}",
        stages=stage_rows(results),
        in_server=server_rows(results),
        store_parts=part_rows(results),
        bytes=f"{statistics.median(one['bytes'] for one in results.parts['merged']):.0f}",
        users=user_rows(results),
        user_heads=" | ".join(f"{size:,} label sets" for size in sizes),
        user_rule="---|" * len(sizes),
        sets=growth_rows(results.sets, floor),
        streams=growth_rows(results.streams, floor),
        memory=memory_rows(results),
        rounds=rounds,
        messages=f"{messages:,}",
        blocks=blocks,
    )


def main() -> None:
    """Measures and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=2000, help="messages of 16 entries a round and load")
    parser.add_argument("--label-sets", type=int, nargs="+", default=LABEL_SETS)
    parser.add_argument("--streams", type=int, nargs="+", default=STREAMS)
    parser.add_argument("--blocks", type=int, default=30, help="blocks of 10,000 rows for the store's parts")
    parser.add_argument("--short", action="store_true", help="a round of everything, small: whether it runs")
    parser.add_argument("--output", type=Path, default=REPORT)
    options = parser.parse_args()
    if options.short:
        options.rounds, options.messages, options.blocks = 1, 250, 1
        options.label_sets, options.streams = (10,), (4,)
    results = run(options.rounds, options.messages, tuple(options.label_sets), tuple(options.streams), options.blocks)
    for file, drawing in charts(results).items():
        options.output.with_name(file).write_text(drawing, encoding="utf-8")
    text = report(results, options.rounds, options.messages, options.blocks)
    options.output.write_text(text, encoding="utf-8")
    beside_report.write(options.output, REPORT.stem, summary(results), figures_of(results))
    print(text)


if __name__ == "__main__":
    main()

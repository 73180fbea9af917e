"""`make bench`: every benchmark in turn, and the index of their reports: each budget, what was measured, met or missed.

Writes benchmarks/reports/README.md from the figures that stand beside the reports, and summaries into the README.
Each benchmark can be run by itself; `--index` then writes the index anew. `--short` measures as little as shows that
everything runs, and tells nothing. Not for: measuring.
"""

from __future__ import annotations

import argparse
import re
import string
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from circumstances import circumstances
from figures import Figure, Run, read
from servers import HERE

REPORTS: Final = HERE / "reports"
README: Final = HERE.parent / "README.md"
_IN_README: Final = re.compile(r"(<!-- measured: ([a-z-]+) -->\n).*?(<!-- measured: end -->)", re.DOTALL)
"""What the README tells of a benchmark, between its name and the end."""
_AT_ONCE: Final = 3
"""Benchmarks that run side by side in the short form, whose figures tell nothing."""
_NOT_MEASURED: Final = "not measured"


@dataclass(frozen=True)
class Benchmark:
    """One of them.

    Attributes:
        name: of its report.
        script: file in this folder.
        target: of make.
        short: arguments of the short form.
    """

    name: str
    script: str
    target: str
    short: tuple[str, ...]


BENCHMARKS: Final = (
    Benchmark("fixed-rates", "fixed_rates.py", "bench-envoy", ("--short",)),
    Benchmark("main-job", "main_job.py", "bench-main-job", ("--rounds", "1", "--calls", "200", "--messages", "10")),
    Benchmark(
        "authorization", "authorization.py", "bench-authorization",
        ("--rounds", "1", "--calls", "200", "--decisions", "40", "--rules", "10", "--megabytes", "1", "--steady", "6"),
    ),
    Benchmark(
        "rate-limits", "rate_limits.py", "bench-rate-limits",
        ("--rounds", "1", "--calls", "200", "--answers", "40", "--rules", "10", "--descriptors", "1", "8"),
    ),
    Benchmark("transports", "transports.py", "bench-transports", ("--rounds", "1", "--calls", "200")),
    Benchmark("telemetry", "telemetry.py", "bench-telemetry", ("--short",)),
    Benchmark("overload", "overload.py", "bench-overload", ("--short",)),
    Benchmark("workers", "workers.py", "bench-workers", ("--rounds", "1", "--calls", "200", "--workers", "1", "2")),
)  # fmt: skip
"""In the order in which they run."""


@dataclass(frozen=True)
class Budget:
    """What a piece of work may cost (DESIGN, budgets).

    Attributes:
        work: for people.
        benchmark: that measures it.
        figure: name among its figures.
        most: in the figure's unit.
        elsewhere: what it costs elsewhere; may be empty.
    """

    work: str
    benchmark: str
    figure: str
    most: float
    elsewhere: str = ""


_OPA: Final = "OPA's plugin for Envoy: 3.6 to 4.4 envoy floors, 1.2 of grpcio"
_RATELIMIT: Final = "envoyproxy/ratelimit with Redis: 1.4 to 1.8 envoy floors"
BUDGETS: Final = (
    Budget("a check, decision cached, on grpcio", "main-job", "check.cached.floors", 1.05, _OPA),
    Budget("the same on envoy", "transports", "envoy.check.cached.floors", 1.15, _OPA),
    Budget("a check by the tutorial's policy, evaluated, on grpcio", "main-job", "check.evaluated.floors", 1.2, _OPA),
    Budget("the same on envoy", "transports", "envoy.check.evaluated.floors", 1.5, _OPA),
    Budget("a request for quota, two descriptors, memory, on envoy", "transports", "envoy.limit.memory.floors", 1.15),
    Budget("the same, Valkey, on envoy", "transports", "envoy.limit.valkey.floors", 1.25, _RATELIMIT),
    Budget("a request for quota, memory, on grpcio", "rate-limits", "limit.memory.floors", 1.15),
    Budget("the same, Valkey, on grpcio", "rate-limits", "limit.valkey.floors", 1.25, _RATELIMIT),
    Budget("a log entry, to Prometheus and to ClickHouse's block", "main-job", "entry.floors", 0.08,
           "OpenTelemetry's receiver: 0.35 to 0.45 grpcio floors, receiving only"),
    Budget("the same where checks come as well", "main-job", "entry.beside_checks.floors", 0.08),
    Budget("memory of a worker without chDB, at rest", "main-job", "memory.worker.idle", 143, "OPA: 49 MiB"),
    Budget("capacity lost at three times the load, on grpcio", "overload", "grpcio.alone.3.lost", 0.2),
    Budget("the same on envoy", "overload", "envoy.alone.3.lost", 0.2),
    Budget("on grpcio, where callers stop by themselves", "overload", "grpcio.breaker.3.lost", 0.2),
    Budget("the same on envoy", "overload", "envoy.breaker.3.lost", 0.2),
    Budget("CPU of a check with two workers, as part of that with one", "workers", "check-64.2.ratio", 1.1),
)  # fmt: skip
"""150 MB are 143 MiB. Those of requests for quota are in envoy floors; on grpcio they are held against its own."""

GROWTH: Final = (
    ("Rego rules", "authorization-rules.svg"),
    ("policy data", "authorization-data.svg"),
    ("limit rules", "rate-limits-rules.svg"),
    ("descriptors", "rate-limits-descriptors.svg"),
    ("log streams", "telemetry-streams.svg"),
    ("label sets", "telemetry-label-sets.svg"),
    ("workers", "workers.svg"),
    ("requests a second", "fixed-rates.svg"),
    ("calls above the capacity", "overload.svg"),
)
"""What grows, and its chart."""


def measure(benchmark: Benchmark, folder: Path, *, short: bool) -> bool:
    """Runs one; whether it went well. The short form is quiet unless it fails, for others run beside it."""
    output = folder / f"{benchmark.name}.md"
    arguments = [*(benchmark.short if short else ()), "--output", str(output)]
    command = [sys.executable, str(HERE / benchmark.script), *arguments]
    if not short:
        print(f"\n== {benchmark.target}", flush=True)
    begun = time.monotonic()
    done = subprocess.run(command, check=False, capture_output=short, text=True)
    if short and done.returncode:
        print(f"{done.stdout}\n{done.stderr}")
    print(f"== {benchmark.target}: {time.monotonic() - begun:.0f} s", flush=True)
    return done.returncode == 0


def runs(folder: Path) -> dict[str, Run]:
    """The figures that stand beside the reports of a folder, by benchmark."""
    found = [read(path) for path in sorted(folder.glob("*.json"))]
    return {run.benchmark: run for run in found}


def budget_rows(found: Mapping[str, Run]) -> str:
    """Lines of the table of budgets."""
    return "\n".join(_row(budget, found.get(budget.benchmark)) for budget in BUDGETS)


def _row(budget: Budget, run: Run | None) -> str:
    figure = None if run is None else run.figures.get(budget.figure)
    if figure is None:
        return f"| {budget.work} | {budget.most:g} | {_NOT_MEASURED} | | {budget.elsewhere} |"
    verdict = "met" if figure.value <= budget.most else "**missed**"
    return (
        f"| [{budget.work}]({budget.benchmark}.md#{_anchor(figure.section)}) | {budget.most:g} {figure.unit} | "
        f"{_value(figure)} | {verdict} | {budget.elsewhere} |"
    )


def _value(figure: Figure) -> str:
    spread = f" ({_number(min(figure.rounds))} to {_number(max(figure.rounds))})" if len(figure.rounds) > 1 else ""
    return f"{_number(figure.value)}{spread}"


def _number(value: float) -> str:
    """Three digits, zeros at the end included."""
    return f"{value:#.3g}".removesuffix(".")


def _anchor(heading: str) -> str:
    """What a link calls a heading."""
    return "".join(letter for letter in heading.lower().replace(" ", "-") if letter.isalnum() or letter == "-")


def report_rows(found: Mapping[str, Run]) -> str:
    """A line for each report: when it was made and what it says."""
    targets = {benchmark.name: benchmark.target for benchmark in BENCHMARKS}
    return "\n\n".join(
        f"### [{name}]({name}.md)\n\n"
        f"{run.circumstances['date']}, `make {targets.get(name, f'bench-{name}')}`\n\n{run.summary}"
        for name, run in found.items()
    )


def growth_rows(folder: Path) -> str:
    """The charts that there are."""
    lines = [
        f"![cost as {what} grow]({chart})" if (folder / chart).exists() else f"Cost as {what} grow: {_NOT_MEASURED}."
        for what, chart in GROWTH
    ]
    return "\n\n".join(lines)


def index(folder: Path) -> str:
    """The index of a folder, from its template."""
    found = runs(folder)
    template = string.Template((HERE / "index.md.template").read_text(encoding="utf-8"))
    return template.substitute(
        **circumstances(), budgets=budget_rows(found), reports=report_rows(found), growth=growth_rows(folder)
    )


def write_into_readme(found: Mapping[str, Run]) -> None:
    """Puts the summary of each benchmark that the README names where it is named."""

    def told(place: re.Match[str]) -> str:
        run = found.get(place[2])
        return place[0] if run is None else f"{place[1]}\n{run.summary}\n\n{place[3]}"

    README.write_text(_IN_README.sub(told, README.read_text(encoding="utf-8")), encoding="utf-8")


def main() -> int:
    """Measures everything and writes the index."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--short", action="store_true", help="as little as shows that everything runs")
    parser.add_argument("--index", action="store_true", help="measure nothing, write the index of what was measured")
    parser.add_argument("--only", nargs="+", choices=[one.name for one in BENCHMARKS], help="only these")
    parser.add_argument("--output", type=Path, default=REPORTS, help="folder of the reports")
    options = parser.parse_args()
    chosen = [one for one in BENCHMARKS if not options.only or one.name in options.only]
    if options.short and options.output == REPORTS:
        raise SystemExit("--short measures nothing worth keeping: give it another folder with --output")
    went_well: list[bool] = []
    if not options.index:
        with ThreadPoolExecutor(_AT_ONCE if options.short else 1) as pool:
            went_well = list(pool.map(partial(measure, folder=options.output, short=options.short), chosen))
    failed = [one.target for one, well in zip(chosen, went_well, strict=False) if not well]
    (options.output / "README.md").write_text(index(options.output), encoding="utf-8")
    if options.output == REPORTS:
        write_into_readme(runs(REPORTS))
    print(budget_rows(runs(options.output)))
    if failed:
        print(f"failed: {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

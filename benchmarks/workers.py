"""`make bench-workers`: what a request costs with one worker and with two, over 16 connections, in turn in one run.

CPU of all processes of a mixer, its Valkey included. Prints a table, which docs/performance.md holds. Loopback only;
ends by itself. Not for: throughput, which needs more processors than a client, two workers and a Valkey can share.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from main_job import Series, measure, run_load
from servers import Mixer
from sizes import limit_rules

_RULES = 100
_WARM_UP_CALLS = 2000
_KINDS = {"check-16": "check, decision cached", "limit-16": "request for quota, two descriptors"}


def costs(series: Series) -> list[float]:
    """Microseconds of CPU of all processes, one figure a round."""
    return [sum(parts) for parts in zip(*series.cpu.values(), strict=True)]


def run(rounds: int, calls: int, folder: Path) -> dict[tuple[str, int], Series]:
    """All rounds, one worker and two in turn."""
    limits = folder / "limits.yaml"
    limits.write_text(limit_rules(_RULES), encoding="utf-8")
    series = {(kind, workers): Series() for kind in _KINDS for workers in (1, 2)}
    with ExitStack() as stack:
        rate_limit = {"config": [str(limits)], "timeout": "5s"}
        mixers = {
            workers: stack.enter_context(Mixer(f"{workers} workers", rate_limit=rate_limit, workers=workers))
            for workers in (1, 2)
        }
        for mixer in mixers.values():
            for kind in _KINDS:
                run_load(kind, mixer.address, _WARM_UP_CALLS)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", flush=True)
            for (kind, workers), figures in series.items():
                measure(figures, mixers[workers], kind, calls)
    return series


def table(series: dict[tuple[str, int], Series]) -> str:
    """Markdown: CPU and throughput with one worker and two, and the ratio of the rounds' medians."""
    lines = ["| over 16 connections | 1 worker, µs | 2 workers, µs | CPU, ratio (rounds) | throughput, ratio |"]
    lines.append("|---|---|---|---|---|")
    for kind, name in _KINDS.items():
        one, two = series[kind, 1], series[kind, 2]
        ratios = [after / before for before, after in zip(costs(one), costs(two), strict=True)]
        rate = statistics.median(two.rate) / statistics.median(one.rate)
        lines.append(
            f"| {name} | {statistics.median(costs(one)):.0f} | {statistics.median(costs(two)):.0f} "
            f"| **{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f}) | {rate:.2f} |"
        )
    parts = {part: statistics.median(cpu) for part, cpu in series["limit-16", 2].cpu.items()}
    lines.append("")
    lines.append("Of a request for quota with two workers: " + ", ".join(f"{p} {v:.0f}" for p, v in parts.items()))
    return "\n".join(lines)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=6000)
    options = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mixer-bench-") as folder:
        print(table(run(options.rounds, options.calls, Path(folder))))
    print(f"in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()

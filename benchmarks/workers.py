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

from main_job import NOTHING_BESIDE, Series, measure, run_load
from servers import Mixer, Valkey
from sizes import limit_rules

_RULES = 100
_WARM_UP_CALLS = 2000
ROWS = (
    ("check-16", "one", "a check, decision cached, 16 in flight: one worker"),
    ("check-16", "two", "the same: two workers"),
    ("check-64", "one", "a check, decision cached, 64 in flight: one worker"),
    ("check-64", "two", "the same: two workers"),
    ("limit-16", "one", "a request for quota, two descriptors, 16 in flight: one worker, in its memory"),
    ("limit-16", "store", "the same: one worker, in a Valkey"),
    ("limit-16", "two", "the same: two workers, in the embedded Valkey"),
)
"""What is measured: the load, the mixer, and what to call it. Ratios are to the first of each load."""


def costs(series: Series) -> list[float]:
    """Microseconds of CPU of all processes, one figure a round."""
    return [sum(parts) for parts in zip(*series.cpu.values(), strict=True)]


def run(rounds: int, calls: int, folder: Path) -> dict[tuple[str, str], Series]:
    """All rounds, every row in turn."""
    limits = folder / "limits.yaml"
    limits.write_text(limit_rules(_RULES), encoding="utf-8")
    plain = {"config": [str(limits)], "timeout": "5s"}
    series = {(kind, name): Series() for kind, name, _ in ROWS}
    with ExitStack() as stack:
        valkey = stack.enter_context(Valkey())
        mixers = {
            "one": stack.enter_context(Mixer("one worker", rate_limit=plain)),
            "store": stack.enter_context(Mixer("store", rate_limit={**plain, "store": f"redis://{valkey.address}"})),
            "two": stack.enter_context(Mixer("two workers", rate_limit=plain, workers=2)),
        }
        for kind, name, _ in ROWS:
            run_load(kind, mixers[name].address, _WARM_UP_CALLS)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", flush=True)
            for (kind, name), figures in series.items():
                beside = valkey.processes() if name == "store" else NOTHING_BESIDE
                measure(figures, mixers[name], kind, calls, beside=beside)
    return series


def table(series: dict[tuple[str, str], Series]) -> str:
    """Markdown: CPU and throughput of each row, and their ratios to the first of the same load, round by round."""
    lines = ["| over 16 connections | CPU, µs | ratio (rounds) | calls a second, ratio |", "|---|---|---|---|"]
    for kind, name, title in ROWS:
        first, own = series[next(key for key in series if key[0] == kind)], series[kind, name]
        ratios = [after / before for before, after in zip(costs(first), costs(own), strict=True)]
        rate = statistics.median(own.rate) / statistics.median(first.rate)
        spread = "" if own is first else f" ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(
            f"| {title} | {statistics.median(costs(own)):.0f} | {statistics.median(ratios):.2f}{spread} | {rate:.2f} |"
        )
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

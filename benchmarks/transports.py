"""`python benchmarks/transports.py`: a cached check and a request for quota on both transports, and their floors.

All in turn in one run. CPU of the process that answers: a worker on grpcio, or the Envoy with a worker inside. Prints a
table, which docs/performance.md holds. Loopback only; ends by itself.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from main_job import Series, measure, run_load
from servers import EnvoyFloor, Floor, Mixer, Server
from sizes import limit_rules

_RULES = 100
_WARM_UP_CALLS = 2000
SERVERS = (
    ("floor of grpcio", "floor"),
    ("mixer on grpcio", "worker"),
    ("floor of envoy", "floor"),
    ("mixer on envoy", "worker"),
)
"""What is measured, and the name of its process that answers; each mixer comes after its floor."""
KINDS = ("check", "limit", "check-16")


def run(rounds: int, calls: int, folder: Path) -> dict[tuple[str, str], Series]:
    """All rounds, every server in turn."""
    limits = folder / "limits.yaml"
    limits.write_text(limit_rules(_RULES), encoding="utf-8")
    rate_limit = {"config": [str(limits)]}
    series = {(kind, name): Series() for kind in KINDS for name, _ in SERVERS}
    with ExitStack() as stack:
        made = (Floor(), Mixer("grpcio", rate_limit=rate_limit), EnvoyFloor(),
                Mixer("envoy", rate_limit=rate_limit, transport="envoy"))  # fmt: skip
        servers: dict[str, Server] = {
            name: stack.enter_context(server) for (name, _), server in zip(SERVERS, made, strict=True)
        }
        for kind, name in series:
            run_load(kind, servers[name].address, _WARM_UP_CALLS)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", flush=True)
            for (kind, name), figures in series.items():
                measure(figures, servers[name], kind, calls)
    return series


def table(series: dict[tuple[str, str], Series]) -> str:
    """Markdown: CPU of each, its ratio to its own floor and to grpcio's, round by round."""
    lines = [
        "| load | server | CPU, µs | in its floors (rounds) | in floors of grpcio | p50 ms | p99 ms |",
        "|---" * 7 + "|",
    ]
    processes = dict(SERVERS)
    for kind in KINDS:
        floor: list[float] = []
        first = series[kind, SERVERS[0][0]].cpu["floor"]
        for name, process in SERVERS:
            own = series[kind, name]
            cpu = own.cpu[processes[name]]
            floor = cpu if process == "floor" else floor
            ratios = [after / before for before, after in zip(floor, cpu, strict=True)]
            firsts = [after / before for before, after in zip(first, cpu, strict=True)]
            latency = (f"{statistics.median(own.latency[at]):.2f}" for at in ("p50", "p99"))
            lines.append(
                f"| {kind} | {name} | {statistics.median(cpu):.0f} | {statistics.median(ratios):.2f}"
                f" ({min(ratios):.2f} to {max(ratios):.2f}) | {statistics.median(firsts):.2f} | {' | '.join(latency)} |"
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
    print(f"\n{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()

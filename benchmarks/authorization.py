"""`make bench-authorization`: checks decided from the cache and evaluated, against the floor; cost as policies grow.

Writes benchmarks/reports/authorization.md and its charts. Loopback only; ends by itself.
Not for: access logs and memory at rest (`main_job.py`), or asserting anything.
"""

from __future__ import annotations

import argparse
import json
import string
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import figures as beside_report
from chart import draw
from circumstances import circumstances
from figures import Figure, figure
from main_job import CHECK_HEADS, Series, check_figures, check_row, measure, mebibytes, run_load, warm_up
from servers import HERE, TUTORIAL, Floor, Mixer
from sizes import rules_in_data, rules_in_rego

REPORT = HERE / "reports" / "authorization.md"
RULES = (10, 100, 1_000, 10_000)
MEGABYTES = (1, 10, 100)
CHECKS = {
    "floor": "floor",
    "cached": "decided from the cache",
    "evaluated": "tutorial's policy, evaluated each time",
    "whole": "the same with a reference that may read anything: the whole input",
}
"""What is measured over the wire, and what to call it."""
_UNCACHED = {"entries": 0}
_PATH = "/reviews/7?page=2"
_WARM_UP_CALLS = 1000
_STEADY_SECONDS = 20
_RELOAD_AFTER = 4.0
_POLL_SECONDS = 0.5
"""Between two looks at /metrics, which cost the processors something too."""


@dataclass(frozen=True)
class Size:
    """One policy of some size, decided in a process of its own.

    Attributes:
        size: rules or megabytes.
        evaluated: figures of `decide.py` without the cache.
        cached: the same with it.
    """

    size: int
    evaluated: dict[str, float]
    cached: dict[str, float]


def over_the_wire(rounds: int, calls: int) -> dict[str, Series]:
    """The floor, a cached and an evaluated check, in turn."""
    series = {name: Series() for name in ("floor", "cached", "evaluated", "whole")}
    whole = {**TUTORIAL, "cache": _UNCACHED, "bundles": [f"{HERE}/workload/tutorial-whole.rego"]}
    with ExitStack() as stack:
        servers = {
            "floor": stack.enter_context(Floor()),
            "cached": stack.enter_context(Mixer("mixer", policy=TUTORIAL)),
            "evaluated": stack.enter_context(Mixer("mixer", policy={**TUTORIAL, "cache": _UNCACHED})),
            "whole": stack.enter_context(Mixer("mixer", policy=whole)),
        }
        for server in servers.values():
            warm_up("check", server.address, _WARM_UP_CALLS, calls)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", flush=True)
            for name, server in servers.items():
                measure(series[name], server, "check", calls)
    return series


def decide(folder: Path, entries: int, count: int) -> dict[str, float]:
    """Figures of one policy in a process of its own."""
    command = [sys.executable, str(HERE / "decide.py"), str(folder), str(entries), _PATH, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{folder.name}: {done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout)
    if not figures["allowed"]:
        raise SystemExit(f"{folder.name} did not allow the request")
    return figures


def grow(folder: Path, rules: tuple[int, ...], megabytes: tuple[int, ...], count: int) -> tuple[list[Size], list[Size]]:
    """Policies of more and more rules, and of more and more data."""
    by_rules, by_data = [], []
    for size in rules:
        print(f"{size} rules", flush=True)
        made = rules_in_rego(folder / f"rules-{size}", size)
        by_rules.append(Size(size, decide(made, 0, max(count // size, 20)), decide(made, 100, count)))
    for size in megabytes:
        print(f"{size} MB of data", flush=True)
        made = rules_in_data(folder / f"data-{size}", size)
        by_data.append(Size(size, decide(made, 0, count), decide(made, 100, count)))
    return by_rules, by_data


def reload_under_load(folder: Path, seconds: int) -> tuple[dict[str, float], dict[str, float], float]:
    """A steady load without and with a reload of the whole policy.

    Returns:
        The client's figures at rest and during a reload, and the seconds until the new revision decided.
    """
    policy = {"bundles": [str(folder)], "cache": _UNCACHED}
    with Mixer("mixer with large data", policy=policy) as server:
        rest = run_load("steady", server.address, seconds)
        command = [sys.executable, str(HERE / "load.py"), "steady", server.address, str(seconds)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
            time.sleep(_RELOAD_AFTER)
            before = server.revision()
            with (folder / "policy.rego").open("a", encoding="utf-8") as file:
                file.write("# changed\n")
            begun = time.monotonic()
            server.reload()
            while server.revision() == before and client.poll() is None:
                time.sleep(_POLL_SECONDS)
            took = time.monotonic() - begun
            output, _ = client.communicate()
    return rest, json.loads(output), took


def size_rows(sizes: list[Size], unit: str) -> str:
    """Lines of the table of sizes."""
    return "\n".join(
        f"| {one.size:,} {unit} | {one.evaluated['microseconds']:,.0f} | {one.evaluated['tier']} | "
        f"{one.cached['microseconds']:.1f} | {one.evaluated['load']:.2f} | {mebibytes(int(one.evaluated['memory']))} |"
        for one in sizes
    )


def charts(by_rules: list[Size], by_data: list[Size]) -> dict[str, str]:
    """SVG by file name."""
    drawn = {}
    for name, across, sizes in (("rules", "rules", by_rules), ("data", "megabytes of data", by_data)):
        lines = {
            kind: [(float(one.size), getattr(one, kind)["microseconds"]) for one in sizes]
            for kind in ("evaluated", "cached")
        }
        drawn[f"authorization-{name}.svg"] = draw(f"A decision as the {name} grow", across, "CPU µs a decision", lines)
    return drawn


def summary(wire: dict[str, Series], by_data: list[Size], reload: dict[str, float]) -> str:
    """What matters of it."""
    floor = wire["floor"].median("floor")
    cached, evaluated = (wire[name].median("worker") / floor for name in ("cached", "evaluated"))
    return (
        f"A cached check costs {cached:.2f} floors, one of the tutorial's policy that is evaluated {evaluated:.2f}. "
        f"With {by_data[-1].size} MB of data an evaluation takes {by_data[-1].evaluated['microseconds']:.0f} µs; while "
        f"such a revision was reloaded under {reload['calls']:,.0f} checks, {reload['failed']:.0f} failed and the "
        f"slowest took {reload['slowest'] * 1e3:.0f} ms."
    )


def figures_of(
    wire: dict[str, Series], by_rules: list[Size], by_data: list[Size], reload: dict[str, float]
) -> list[Figure]:
    """Every figure of the report."""
    floor, found = wire["floor"].cpu["floor"], []
    for key, title in CHECKS.items():
        process = "floor" if key == "floor" else "worker"
        found += check_figures(f"check.{key}", title, wire[key], process, floor, "Against the floor")
    for unit, sizes in (("rules", by_rules), ("MB", by_data)):
        for one in sizes:
            for kind, figures in (("evaluated", one.evaluated), ("cached", one.cached)):
                title = f"decision, {one.size:,} {unit}, {kind}"
                cost = figures["microseconds"]
                found.append(figure(f"{unit}.{one.size}.{kind}", title, "µs", [cost], "As policies grow"))
    section = f"Reloading {by_data[-1].size} MB of data under load"
    found.append(figure("reload.failed", "checks that failed during a reload", "checks", [reload["failed"]], section))
    found.append(figure("reload.slowest", "slowest check during a reload", "ms", [reload["slowest"] * 1e3], section))
    return found


def main() -> None:
    """Measures and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=6000, help="checks a round and server")
    parser.add_argument("--decisions", type=int, default=2000, help="decisions a batch and size")
    parser.add_argument("--rules", type=int, nargs="+", default=RULES)
    parser.add_argument("--megabytes", type=int, nargs="+", default=MEGABYTES)
    parser.add_argument("--steady", type=int, default=_STEADY_SECONDS, help="seconds of load around a reload, at least")
    parser.add_argument("--output", type=Path, default=REPORT)
    options = parser.parse_args()
    wire = over_the_wire(options.rounds, options.calls)
    with tempfile.TemporaryDirectory(prefix="mixer-bench-") as name:
        by_rules, by_data = grow(Path(name), tuple(options.rules), tuple(options.megabytes), options.decisions)
        largest = Path(name) / f"data-{by_data[-1].size}"
        rest, reload, took = reload_under_load(largest, options.steady + int(2 * by_data[-1].evaluated["load"]))
    for file, drawing in charts(by_rules, by_data).items():
        options.output.with_name(file).write_text(drawing, encoding="utf-8")
    floor = wire["floor"].median("floor")
    template = string.Template((HERE / "authorization.md.template").read_text(encoding="utf-8"))
    text = template.substitute(
        **circumstances(),
        rounds=options.rounds,
        calls=f"{options.calls:,}",
        decisions=f"{options.decisions:,}",
        summary=summary(wire, by_data, reload),
        checks="\n".join(
            (
                CHECK_HEADS,
                *(
                    check_row(name, wire[key], "floor" if key == "floor" else "worker", floor)
                    for key, name in CHECKS.items()
                ),
            )
        ),
        rules=size_rows(by_rules, "rules"),
        data=size_rows(by_data, "MB"),
        megabytes=by_data[-1].size,
        took=f"{took:.1f}",
        reload="\n".join(
            f"| {name} | {one['calls']:,.0f} | {one['failed']:.0f} | {one['p50'] * 1e3:.1f} | {one['p99'] * 1e3:.1f} | "
            f"{one['slowest'] * 1e3:.0f} |"
            for name, one in (("at rest", rest), ("during a reload", reload))
        ),
    )
    options.output.write_text(text, encoding="utf-8")
    beside_report.write(
        options.output, REPORT.stem, summary(wire, by_data, reload), figures_of(wire, by_rules, by_data, reload)
    )
    print(text)


if __name__ == "__main__":
    main()

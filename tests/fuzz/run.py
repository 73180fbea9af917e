"""`make fuzz`: one target after another, round and round, for a given time; what is found is kept as a case.

Each turn of a target is a process of its own, with limits of its own, so that a crash or a hang costs a turn. Writes
docs/fuzzing-report.md unless told where else. Ends with 1 when something was found.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.circumstances import circumstances
from tests.fuzz.target import CORPUS, load, names

ROOT = Path(__file__).parents[2]
INPUTS = ROOT / ".fuzz"
"""Inputs by which new code was reached; they stay between runs, and are no part of the repository."""
TURN_SECONDS = 30
START_SECONDS = 900
"""How much longer a turn may take than it was told: to import, and to try what is there already."""
_RUNS = re.compile(r"stat::number_of_executed_units: (\d+)")
_COVERAGE = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")
_MEMORY = re.compile(r"stat::peak_rss_mb: +(\d+)")


@dataclass(slots=True)
class Tally:
    """What became of one target.

    Attributes:
        seconds: that it was tried.
        runs: inputs that were tried.
        edges: places of mixer_py's code that were reached; 0 without Atheris.
        inputs: that reach them.
        memory: the most that it held, in MiB.
        found: cases that were found in this run.
    """

    seconds: float = 0.0
    runs: int = 0
    edges: int = 0
    inputs: int = 0
    memory: int = 0
    found: list[str] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="of all targets together")
    parser.add_argument("--turn", type=int, default=TURN_SECONDS, help="seconds of one target at a time")
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "fuzzing-report.md")
    parser.add_argument("targets", nargs="*", help="all of them when none is named")
    options = parser.parse_args()
    tallies = fuzz(options.targets or names(), options.seconds, options.turn)
    options.report.write_text(report(tallies), encoding="utf-8")
    found = [case for tally in tallies.values() for case in tally.found]
    print("\n".join(found) or "nothing was found")
    return 1 if found else 0


def fuzz(targets: list[str], seconds: float, turn: int) -> dict[str, Tally]:
    """Gives each target a turn, and goes on until the time is used."""
    tallies = {name: Tally() for name in targets}
    waiting = deque(targets)
    end = time.monotonic() + seconds
    while waiting and (left := end - time.monotonic()) > 0:
        name = waiting.popleft()
        give_turn(name, tallies[name], max(1, min(turn, round(left))))
        print(f"{name}: {tallies[name]}", flush=True)
        if not tallies[name].found:  # it would only be found again
            waiting.append(name)
    return tallies


def give_turn(name: str, tally: Tally, seconds: int, runs: int | None = None) -> None:
    """Tries one target for some seconds; with `runs` for so many inputs instead, and at most those seconds."""
    found = INPUTS / "found" / name
    shutil.rmtree(found, ignore_errors=True)
    command = [
        sys.executable, "-m", "tests.fuzz.one", name, "--seconds", str(seconds), "--inputs", str(INPUTS / name),
        "--found", str(found), *([] if runs is None else ["--runs", str(runs)]),
    ]  # fmt: skip
    began = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, text=True,
            errors="replace", timeout=seconds + START_SECONDS, check=False,
        )  # fmt: skip
        told, ended_well = f"{done.stderr}{done.stdout}\nended with {done.returncode}", done.returncode == 0
    except subprocess.TimeoutExpired as late:
        told, ended_well = str(late), False
    tally.seconds += time.monotonic() - began
    tally.runs += _last(_RUNS, told)
    tally.memory = max(tally.memory, _last(_MEMORY, told))
    for match in _COVERAGE.finditer(told):
        tally.edges, tally.inputs = max(tally.edges, int(match[1])), int(match[3])
    if not ended_well:
        keep(name, tally, found, told)


def keep(name: str, tally: Tally, found: Path, told: str) -> None:
    """Puts what was found among the cases, and what was told beside it."""
    print(told[-4000:])
    cases = sorted(found.glob("*")) if found.is_dir() else []
    for case in cases:
        (CORPUS / name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(case, CORPUS / name / case.name)
        tally.found.append(f"{name}/{case.name}")
    if not cases:
        tally.found.append(f"{name}: ended without a case")


def _last(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.findall(text)
    return int(found[-1]) if found else 0


def report(tallies: dict[str, Tally]) -> str:
    """What a run saw, as a page."""
    seen = circumstances(*(["atheris"] if importlib.util.find_spec("atheris") else []))
    lines = [
        "# Fuzzing: the last run",
        "",
        f"mixer-py {seen['version']} on {seen['date']}. Made by `make fuzz`; [fuzzing.md](fuzzing.md) says",
        "what is tried and what must hold.",
        "",
        f"{sum(tally.seconds for tally in tallies.values()):.0f} seconds,",
        f"{sum(tally.runs for tally in tallies.values()):,} inputs,",
        f"{sum(len(tally.found) for tally in tallies.values())} found.",
        "",
        "*Edges* are places in mixer's code that were reached, *inputs* those that are kept because each reaches",
        "another one. *Kept* are the cases in `tests/fuzz/corpus/`, which every run of the tests tries.",
        "",
        "| target | seconds | tried | edges | inputs | MiB at most | found now | kept |",
        "|---|---:|---:|---:|---:|---:|---|---:|",
    ]
    for name, tally in tallies.items():
        found = ", ".join(f"`{case}`" for case in tally.found) or "none"
        kept = len(load(name).kept())
        lines.append(
            f"| `{name}` | {tally.seconds:.0f} | {tally.runs:,} | {tally.edges:,} | {tally.inputs:,} | {tally.memory} "
            f"| {found} | {kept} |"
        )
    lines += ["", f"Machine: {seen['machine']}. Python {seen['python']}; {seen['parts']}. CI runs a short form."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())

"""docs/faults.md: a row for each fault, in the order of the table, and which run each is of.

A whole run writes the page anew. Faults that are injected by themselves replace their rows, or get one;
all others stay.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.faults.fault import Fault, Seen
from tests.faults.scene import RATE

WHOLE = "whole run"
"""What the column `injected` says of a row of the whole run; of others the minute (UTC) in which they were over."""
_HEAD = """# Faults

Made by `make faults`; the last whole run was on {day}, in {minutes} minutes. Each fault was injected into real parts
(Envoy, mixer, chDB, ClickHouse, Valkey, Redis, OPA) under {rate} requests a second through Envoy. *Failed*: requests
that did not pass, of those sent until all was well. *Healed*: seconds from the end of the fault until the last failure.
*Rows lost*: dropped and counted, by reason; the books (received = written + dropped + waiting) balanced after each,
and each request that passed has a row of `decisions`, or is counted there; where mixer ended, by what the last line of
its log says. *Unlogged*: requests without a row of `requests`, because Envoy sends log entries at most once.
*Injected*: in the whole run, or later by itself (`make faults ARGS="--only NAME --merge"`), when; a row shows the last
time, whatever was seen before.

{verdict}

| fault | promise | failed | healed | slowest | rows lost | unlogged | injected | kept |
|---|---|---|---|---|---|---|---|---|
"""
_RUN = re.compile(r"the last whole run was on (\S+), in (\d+) minutes")


@dataclass(frozen=True, slots=True)
class Page:
    """What the page says.

    Attributes:
        day: of the whole run (UTC).
        minutes: that it took.
        rows: each a line, by the name of its fault.
    """

    day: str
    minutes: int
    rows: Mapping[str, str]

    def render(self, order: Sequence[str]) -> str:
        """Its text, with the rows of these faults in this order; those of others are gone."""
        rows = [(name, cells(self.rows[name])) for name in order if name in self.rows]
        broken = [name for name, row in rows if row[-1] != "yes"]
        missing = len(order) - len(rows)
        alone = sorted(row[-2] for _, row in rows if row[-2] != WHOLE)
        verdict = [f"Not kept: {', '.join(broken)}." if broken else f"All {len(rows)} promises were kept."]
        if missing:
            verdict.append(f"{missing} faults of the table have not been injected yet.")
        verdict.append(f"{len(rows) - len(alone)} faults were injected in the whole run")
        verdict[-1] += f", and {len(alone)} by themselves, the last at {alone[-1]}." if alone else "."
        head = _HEAD.format(day=self.day, minutes=self.minutes, rate=RATE, verdict="\n".join(verdict))
        return head + "\n".join(self.rows[name] for name, _ in rows) + "\n"


def cells(row: str) -> list[str]:
    """What stands in a row: the fault first, then its promise; last when it was injected, and whether it was kept."""
    return row.removeprefix("| ").removesuffix(" |").split(" | ")


def whole_run(results: Iterable[tuple[Fault, Seen]], seconds: float) -> Page:
    """The page of a run of all faults that has just ended."""
    return Page(time.strftime("%Y-%m-%d", time.gmtime()), round(seconds / 60), _rows(results, WHOLE))


def merged(text: str, results: Iterable[tuple[Fault, Seen]]) -> Page:
    """The page as it was, with the rows of faults that have just been injected by themselves."""
    run = _RUN.search(text)
    assert run is not None, "the page does not say of which whole run it is"
    before = {cells(line)[0]: line for line in text.splitlines() if line.startswith("| ")}
    now = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    return Page(run[1], int(run[2]), {**before, **_rows(results, now)})


def _rows(results: Iterable[tuple[Fault, Seen]], injected: str) -> dict[str, str]:
    return {
        fault.name: f"| {fault.name} | {fault.promise} | {seen.failed} of {seen.sent} | {seen.healed:.1f} s "
        f"| {seen.slowest:.2f} s | {', '.join(f'{count} {reason}' for reason, count in seen.lost.items()) or 'none'} "
        f"| {seen.unlogged} | {injected} | {'; '.join(seen.broken).replace(' | ', ' / ') or 'yes'} |"
        for fault, seen in results
    }

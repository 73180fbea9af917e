"""`make faults`: injects every fault, one after another, and writes docs/faults.md from what was seen.

Ends with 1 when a promise did not hold. Loopback only; it ends by itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from mixer_py.errors import MixerError
from tests.faults import (
    bundles,
    candidates,
    certificates,
    clickhouse_server,
    clocks,
    counters,
    disks,
    envoy_lines,
    network,
    opa,
    policies,
    processes,
    resources,
    rows,
    shutdown,
    stages,
)
from tests.faults.fault import Fault, Seen
from tests.faults.scene import RATE, open_scene
from tests.faults.setups import SETUPS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "faults.md"
_ROOMS = (
    processes,
    stages,
    candidates,
    counters,
    rows,
    disks,
    clickhouse_server,
    policies,
    bundles,
    opa,
    clocks,
    certificates,
    network,
    envoy_lines,
    resources,
)
THEMSELVES: tuple[Fault, ...] = tuple(fault for room in _ROOMS for fault in room.FAULTS)
"""Each once; in `FAULTS` those that last come again, with a SIGTERM in the middle."""
FAULTS: tuple[Fault, ...] = (*THEMSELVES, *shutdown.terminations(THEMSELVES))
_TOGETHER = 14
"""Faults that come one after another in the same parts, where several sets of parts run at a time."""
_HEAD = """# Faults

Made by `make faults`; the last time on {day}, in {minutes:.0f} minutes. Each fault was injected into real parts
(Envoy, mixer, chDB, ClickHouse, Valkey, Redis, OPA) under {rate} requests a second through Envoy. *Failed*: requests
that did not pass, of those sent until all was well. *Healed*: seconds from the end of the fault until the last failure.
*Rows lost*: dropped and counted, by reason; the books (received = written + dropped + waiting) balanced after each,
and each request that passed has a row of `decisions`, or is counted there; where mixer ended, by what the last line of
its log says. *Unlogged*: requests without a row of `requests`, because Envoy sends log entries at most once.

{verdict}

| fault | promise | failed | healed | slowest | rows lost | unlogged | kept |
|---|---|---|---|---|---|---|---|
"""


def run(faults: Iterable[Fault], *, say: bool = False, lanes: int = 1) -> Iterator[tuple[Fault, Seen]]:
    """Injects them, those of one setup one after another in the same parts; so many sets of parts at a time."""
    wanted: dict[str, list[Fault]] = {}
    for fault in faults:
        if reason := fault.lacks():
            yield fault, Seen(0, 0, 0.0, 0.0, broken=(f"not injected: {reason}",))
        else:
            wanted.setdefault(fault.setup, []).append(fault)
    most = max(map(len, wanted.values()), default=1) if lanes == 1 else _TOGETHER
    groups = [all_of_it[at : at + most] for all_of_it in wanted.values() for at in range(0, len(all_of_it), most)]
    seen: SimpleQueue[tuple[Fault, Seen] | None] = SimpleQueue()

    def inject(group: Sequence[Fault]) -> None:
        try:
            for one in _run_in_parts(group, say=say):
                seen.put(one)
        finally:
            seen.put(None)

    with ThreadPoolExecutor(lanes) as pool:
        runs = [pool.submit(inject, group) for group in sorted(groups, key=len, reverse=True)]
        for _ in runs:
            while (one := seen.get()) is not None:
                yield one
        for ended in runs:
            ended.result()


def _run_in_parts(faults: Sequence[Fault], *, say: bool) -> Iterator[tuple[Fault, Seen]]:
    """One after another in the same parts; in fresh ones after a fault that was not brought about as meant."""
    setup, left = SETUPS[faults[0].setup], list(faults)
    while left:
        with tempfile.TemporaryDirectory(prefix="mixer-faults-") as folder, ExitStack() as stack:
            scene = stack.enter_context(open_scene(Path(folder), setup.settings, partial(setup.start, stack=stack)))
            whole = True
            while left and whole:
                fault, begun = left.pop(0), time.monotonic()
                try:
                    seen = scene.try_out(fault)
                except (AssertionError, MixerError, OSError) as error:
                    seen, whole = Seen(0, 0, 0.0, 0.0, broken=(str(error).partition("\n")[0],)), False
                if say:
                    kept, seconds = "BROKEN" if seen.broken else "kept  ", time.monotonic() - begun
                    print(f"{kept} {seconds:5.1f} s  {fault.setup}: {fault.name}: {seen}", flush=True)
                yield fault, seen


def page(results: list[tuple[Fault, Seen]], seconds: float) -> str:
    """The page."""
    broken = [fault.name for fault, seen in results if seen.broken]
    verdict = (
        f"All {len(results)} promises were kept." if not broken else f"Not kept: {', '.join(broken)}."
    )  # fmt: skip
    day = time.strftime("%Y-%m-%d", time.gmtime())
    order = {fault.name: number for number, fault in enumerate(FAULTS)}
    lines = [
        f"| {fault.name} | {fault.promise} | {seen.failed} of {seen.sent} | {seen.healed:.1f} s | {seen.slowest:.2f} s "
        f"| {', '.join(f'{count} {reason}' for reason, count in seen.lost.items()) or 'none'} | {seen.unlogged} "
        f"| {'; '.join(seen.broken) or 'yes'} |"
        for fault, seen in sorted(results, key=lambda one: order[one[0].name])
    ]
    head = _HEAD.format(day=day, minutes=seconds / 60, rate=RATE, verdict=verdict)
    return head + "\n".join(lines) + "\n"


def main() -> int:
    """Injects, writes, and says what did not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", default="", help="faults whose names or parts contain this; nothing is written then")
    parser.add_argument("--lanes", type=int, default=2, help="sets of parts that faults are injected into at a time")
    parser.add_argument("--output", type=Path, default=PAGE)
    options = parser.parse_args()
    begun = time.monotonic()
    faults = [fault for fault in FAULTS if options.only in f"{fault.name} {fault.setup}"]
    results = list(run(faults, say=True, lanes=options.lanes))
    if not options.only:
        options.output.write_text(page(results, time.monotonic() - begun), encoding="utf-8")
    broken = {fault.name: seen.broken for fault, seen in results if seen.broken}
    print(json.dumps(broken, indent=2) if broken else f"{len(results)} promises kept")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

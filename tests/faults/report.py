"""`make faults`: injects every fault, one after another, and writes docs/faults.md from what was seen.

Ends with 1 when a promise did not hold. Loopback only; it ends by itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.faults import counters, network, policies, processes, resources, rows, shutdown
from tests.faults.fault import Fault, Seen
from tests.faults.scene import RATE, open_scene
from tests.faults.setups import SETUPS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "faults.md"
FAULTS: tuple[Fault, ...] = tuple(
    fault for room in (processes, counters, rows, policies, network, resources, shutdown) for fault in room.FAULTS
)
_HEAD = """# Faults

Made by `make faults`; the last time on {day}, in {minutes:.0f} minutes. Each fault was injected into real parts
(Envoy, mixer, chDB, Valkey, OPA) under {rate} requests a second through Envoy. *Failed*: requests that did not pass,
of those sent until all was well. *Healed*: seconds from the end of the fault until the last failure. *Rows lost*:
dropped and counted, by reason; the books (received = written + dropped + waiting) balanced after every one.
*Unlogged*: requests without a row of `requests`, because Envoy sends log entries at most once; their decisions have
rows of their own.

{verdict}

| fault | promise | failed | healed | slowest | rows lost | unlogged | kept |
|---|---|---|---|---|---|---|---|
"""


def run(faults: Iterable[Fault], *, say: bool = False) -> Iterator[tuple[Fault, Seen]]:
    """Injects them, those of one setup in the same parts."""
    faults = list(faults)
    for name, setup in SETUPS.items():
        here = [fault for fault in faults if fault.setup == name]
        if not here:
            continue
        with tempfile.TemporaryDirectory(prefix="mixer-faults-") as folder, ExitStack() as stack:
            scene = stack.enter_context(open_scene(Path(folder), setup.settings, partial(setup.start, stack=stack)))
            for fault in here:
                seen = scene.try_out(fault)
                if say:
                    print(f"{'kept  ' if not seen.broken else 'BROKEN'} {name}: {fault.name}: {seen}", flush=True)
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
    parser.add_argument("--output", type=Path, default=PAGE)
    options = parser.parse_args()
    begun = time.monotonic()
    results = list(run((fault for fault in FAULTS if options.only in f"{fault.name} {fault.setup}"), say=True))
    if not options.only:
        options.output.write_text(page(results, time.monotonic() - begun), encoding="utf-8")
    broken = {fault.name: seen.broken for fault, seen in results if seen.broken}
    print(json.dumps(broken, indent=2) if broken else f"{len(results)} promises kept")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

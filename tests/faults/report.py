"""`make faults`: injects every fault, one after another, and writes docs/faults.md from what was seen.

With `--only NAME --merge` it injects some, and puts their rows among those that are there; with `--only` alone it
writes nothing.
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

from tests.faults import (
    bundles,
    candidates,
    certificates,
    clickhouse_server,
    clocks,
    counter_groups,
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
    takeovers,
)
from tests.faults.fault import Fault, Seen
from tests.faults.page import merged, whole_run
from tests.faults.scene import open_scene
from tests.faults.setups import SETUPS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "faults.md"
_ROOMS = (
    processes,
    stages,
    takeovers,
    candidates,
    counters,
    counter_groups,
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
                except Exception as error:  # noqa: BLE001 (of half an hour's run one row is lost, not all)
                    words = f"{type(error).__name__}: {error}".partition("\n")[0]
                    seen, whole = Seen(0, 0, 0.0, 0.0, broken=(words,)), False
                if say:
                    kept, seconds = "BROKEN" if seen.broken else "kept  ", time.monotonic() - begun
                    print(f"{kept} {seconds:5.1f} s  {fault.setup}: {fault.name}: {seen}", flush=True)
                yield fault, seen


def main() -> int:
    """Injects, writes, and says what did not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", action="append", default=[], help="faults whose names or parts contain one of these")
    parser.add_argument("--merge", action="store_true", help="with --only: put their rows into the page that there is")
    parser.add_argument("--lanes", type=int, default=2, help="sets of parts that faults are injected into at a time")
    parser.add_argument("--output", type=Path, default=PAGE)
    options = parser.parse_args()
    begun = time.monotonic()
    words = options.only or [""]
    faults = [fault for fault in FAULTS if any(one in f"{fault.name} {fault.setup}" for one in words)]
    order, results = [fault.name for fault in FAULTS], []
    for one in run(faults, say=True, lanes=options.lanes):
        results.append(one)
        if options.only and options.merge:  # at once: a run that is broken off has told what it has seen
            page = merged(options.output.read_text(encoding="utf-8"), [one])
            options.output.write_text(page.render(order), encoding="utf-8")
    if not options.only:
        options.output.write_text(whole_run(results, time.monotonic() - begun).render(order), encoding="utf-8")
    broken = {fault.name: seen.broken for fault, seen in results if seen.broken}
    print(json.dumps(broken, indent=2) if broken else f"{len(results)} promises kept")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

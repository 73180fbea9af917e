"""Fuzzes one target in this process: `python -m tests.fuzz.one TARGET --seconds 10 --inputs FOLDER --found FOLDER`.

Guided by the coverage of mixer_py where Atheris is installed and sees it, else blindly. Ends with 0 when nothing was
found. With `--runs 200` it tries that many, always the same ones, however long it takes: so do tests.
Not for: rounds over all targets (`run.py`).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import random
import resource
import sys
import time
from pathlib import Path

import mixer_py.runtime.arrow  # noqa: F401 (first of all: pyarrow is to be without pandas here as it is in the product)
from tests.fuzz.target import Target, load, names

INPUT_SECONDS = 300
"""How long one input may take; far above what any takes, so that a busy machine finds no hang."""
PATIENT_SECONDS = 900
"""The same in a run that is to end alike on any machine; far above what the slowest and busiest one needs."""
SEED = 1
MEMORY_MEBIBYTES = 2048
"""How much one target may hold."""
LONGEST = 8192
"""Bytes of an input. What is about size has tests of its own."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=names())
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--runs", type=int, help="instead of seconds: how many inputs beyond those to begin with")
    parser.add_argument("--inputs", type=Path, required=True, help="where inputs of a new coverage are collected")
    parser.add_argument("--found", type=Path, required=True, help="where inputs that break an invariant go")
    options = parser.parse_args()
    for folder in (options.inputs, options.found):
        folder.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("atheris") is None:
        return blind(load(options.target), options.seconds, options.found, options.runs)
    return guided(options.target, options.seconds, options.inputs, options.found, options.runs)


def guided(name: str, seconds: int, inputs: Path, found: Path, runs: int | None = None) -> int:
    """With Atheris, which ends the process by itself where it has something to go by."""
    import atheris

    with atheris.instrument_imports(include=["mixer_py"], enable_loader_override=False):
        target = load(name)
    if target.is_elsewhere:  # without coverage libFuzzer would keep none of the seeds but the shortest
        return blind(target, seconds, found, runs)
    plant(target, inputs)
    bounds = (
        [f"-max_total_time={seconds}", f"-timeout={INPUT_SECONDS}"]
        if runs is None
        else [f"-runs={len(list(inputs.iterdir())) + runs}", f"-seed={SEED}", f"-timeout={PATIENT_SECONDS}"]
    )
    arguments = [
        sys.argv[0], str(inputs), *bounds,
        f"-rss_limit_mb={MEMORY_MEBIBYTES}", f"-max_len={LONGEST}", f"-artifact_prefix={found}/",
        "-print_final_stats=1",
    ]  # fmt: skip
    atheris.Setup(arguments, target.check)
    atheris.Fuzz()
    return 0


def plant(target: Target, inputs: Path) -> None:
    """Puts the seeds and the kept cases among the inputs, each under its hash, as libFuzzer does."""
    for seed in (*target.seeds(), *(path.read_bytes() for path in target.kept())):
        Path(inputs, hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)


def blind(target: Target, seconds: int, found: Path, runs: int | None = None) -> int:
    """Without coverage: seeds that are changed here and there, for as long as may be, or as often."""
    seeds = [*target.seeds(), *(path.read_bytes() for path in target.kept())]
    chance, end, tried = random.Random(None if runs is None else SEED), time.monotonic() + seconds, 0
    waiting = list(seeds)
    while waiting or (time.monotonic() < end if runs is None else tried < len(seeds) + runs):
        data = waiting.pop() if waiting else changed(chance, seeds)
        tried += 1
        try:
            target.check(data)
        except BaseException:
            name = hashlib.sha1(data, usedforsecurity=False).hexdigest()
            Path(found, f"crash-{name}").write_bytes(data)
            raise
    print(f"stat::number_of_executed_units: {tried}")
    print(f"stat::peak_rss_mb: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10}")
    return 0


def changed(chance: random.Random, seeds: list[bytes]) -> bytes:
    """One of the seeds with some of its bytes flipped, cut, doubled or taken from another one."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 6)):
        first, last = sorted((chance.randint(0, len(data)), chance.randint(0, len(data))))
        match chance.randrange(5):
            case 0 if data:
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            case 1:
                del data[first : min(last, first + 16)]
            case 2:
                data[first:first] = chance.randbytes(chance.randint(1, 8))
            case 3:
                data[first:first] = data[first:last]
            case _:
                other = chance.choice(seeds)
                start = chance.randint(0, len(other))
                data[first:last] = other[start : start + chance.randint(0, 64)]
    return bytes(data[:LONGEST])


if __name__ == "__main__":
    sys.exit(main())

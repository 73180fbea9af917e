"""A target of the fuzzers: a function from bytes to None that raises when an invariant is broken.

docs/fuzzing.md names the invariants. Each module of `targets/` is one target: its `check`, and its `seeds`.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

FOLDER = Path(__file__).parent
CORPUS = FOLDER / "corpus"
"""Cases that were found, a folder for each target; each is tried in every run of the tests."""
CASES = FOLDER.parent / "cases"

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Target:
    """Something that bytes come into from outside.

    Attributes:
        name: of the module.
        check: tries some bytes; raises AssertionError for a broken invariant, or whatever a crash raises.
        seeds: inputs to begin with.
        is_elsewhere: what is tried runs in another process, whose coverage nobody sees.
    """

    name: str
    check: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    is_elsewhere: bool = False

    def kept(self) -> list[Path]:
        """The cases that were found and are kept."""
        return sorted(path for path in (CORPUS / self.name).glob("*") if path.is_file())


def names() -> list[str]:
    """Every target, sorted."""
    return sorted(path.stem for path in (FOLDER / "targets").glob("*.py"))


def load(name: str) -> Target:
    """Imports a target, and with it the rooms that it tries."""
    module = importlib.import_module(f"tests.fuzz.targets.{name}")
    return Target(name, module.check, module.seeds, getattr(module, "IS_ELSEWHERE", False))


_LOOPS: list[asyncio.Runner] = []


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs a coroutine in the one loop of this process: making a loop for each input would take most of the time."""
    if not _LOOPS:
        _LOOPS.append(asyncio.Runner())
    return _LOOPS[0].run(work)


def split(data: bytes) -> list[bytes]:
    """Several byte strings from one: each part is preceded by its length in two bytes; the last takes what is left."""
    parts: list[bytes] = []
    while len(data) > 2:
        length = int.from_bytes(data[:2], "big")
        parts.append(data[2 : 2 + length])
        data = data[2 + length :]
    return parts


def joined(parts: Iterable[bytes]) -> bytes:
    """What `split` takes apart again; each part is below 64 KiB."""
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)

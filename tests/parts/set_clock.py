"""A wall clock that is set while mixer runs, forward or back, where a test may not set the clock of the machine."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.parts.shims import compiled

SHIM = Path(__file__).with_name("set_clock.c")


class SetClock:
    """The wall clock of every process that is started with `environment`; needs gcc."""

    def __init__(self, work: Path) -> None:
        self._library = compiled(SHIM, work)
        self._told = work / "set_clock"
        self._told.write_bytes(bytes(8))

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process has to be started with."""
        return {"LD_PRELOAD": str(self._library), "SET_CLOCK": str(self._told)}

    @property
    def now(self) -> float:
        """Seconds since 1970 as that clock has them."""
        return time.time() + struct.unpack("=q", self._told.read_bytes())[0] / 1e9

    @contextmanager
    def ahead(self, seconds: float) -> Iterator[None]:
        """The clock is so far ahead of the real one, or behind, for as long as the block takes."""
        self._set(seconds)
        try:
            yield
        finally:
            self._set(0.0)

    def _set(self, seconds: float) -> None:
        with self._told.open("r+b", buffering=0) as file:  # in place: it is mapped
            file.write(struct.pack("=q", int(seconds * 1e9)))

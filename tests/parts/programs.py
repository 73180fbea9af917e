"""The programs that tests run, ended by their ids in the other order, with their last words for a failure's report."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from mixer_py.demo.processes import Program, own_environment


class Programs:
    """A group of programs whose logs are files of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[Program] = []

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        death_signal: signal.Signals = signal.SIGTERM,
    ) -> Program:
        """Starts one; settings of mixer in this process's environment are not handed down."""
        program = Program(
            name,
            command,
            self.folder / f"{name}.log",
            environment={**own_environment(), **(environment or {})},
            death_signal=death_signal,
        )
        self._running.append(program)
        return program

    def last_words(self) -> list[tuple[str, str]]:
        """The end of each log, as sections of a pytest report."""
        return [(f"log of {program.name} ({program.pid})", program.tail(60)) for program in self._running]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._running:
            self._running.pop().stop()

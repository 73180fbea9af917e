"""ChDB's own interface, as far as the engine uses it, with types; and how to read its messages and its lock.

Not for: what is asked of it (`engine.py`).
"""

from __future__ import annotations

import fcntl
import json
import re
from pathlib import Path
from typing import Any, Final, Protocol

_VERSION_SUFFIX: Final = re.compile(r"\s*\(version [^)]*\)")

Row = dict[str, Any]


class Answer(Protocol):
    """What chDB answers."""

    def bytes(self) -> bytes:
        """The answer in the format that was asked for."""


class Connection(Protocol):
    """A connection of chDB. What runs on one waits for what ran before; several do not wait for one another.

    Whatever goes wrong is a RuntimeError (`chdb.ChdbError` is one).
    """

    def query(self, query: str, format: str = "CSV") -> Answer:  # noqa: A002 (chDB's name)
        """Runs one statement."""

    def close(self) -> None:
        """Lets go; the last connection of the process lets go of the folder."""


def read_rows(connection: Connection, sql: str) -> list[Row]:
    """The rows of a SELECT.

    Raises:
        RuntimeError: the database refused it.
    """
    return [json.loads(line) for line in connection.query(sql, "JSONEachRow").bytes().splitlines()]


def is_locked(path: Path) -> bool:
    """Whether another process holds chDB's lock file (flock(2))."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def tidy(message: str) -> str:
    """A message of chDB without its version, on one line and of a sane length."""
    return " ".join(_VERSION_SUFFIX.sub("", message).split())[:2000]

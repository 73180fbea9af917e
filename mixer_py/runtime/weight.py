"""Whether a revision is too large to be built in a worker that answers: its event loop stands still meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from mixer_py.config.configuration import Configuration

_HEAVY_SECONDS: Final = 0.05
"""CPU that the revision before took, above which the next one is thought to be as large."""
HEAVY_CONNECTION_AGE: Final = 60.0
"""Seconds that a connection to a worker of such a revision lives, so that its predecessors can end soon."""
_AGE_JITTER: Final = 1.1
"""gRPC lets connections live up to a tenth longer than their age."""
_HEAVY_BYTES: Final = 200_000
"""Policies, data and rules in files, above which they are thought to take longer than that."""


def is_heavy(configuration: Configuration, last_cost: float, fetched: Iterable[Path]) -> bool:
    """Whether to build it in a fresh worker that takes over.

    Args:
        configuration: what is to be built.
        last_cost: seconds of CPU that the revision in force took.
        fetched: files that belong to it besides those that the configuration names.
    """
    if any(listener.address.is_tcp and not listener.address.port for listener in configuration.server.listeners):
        return False  # nobody else could listen on a port that the system chose
    return is_costly(last_cost) or _weigh_over(
        [*map(Path, (*configuration.policy.bundles, *configuration.rate_limit.config)), *fetched], _HEAVY_BYTES
    )


def is_costly(cost: float) -> bool:
    """Whether a revision that took so many seconds of CPU would keep a worker from answering for too long."""
    return cost > _HEAVY_SECONDS


def oldest_age(age: float) -> float:
    """Seconds after which every connection has been told to go, where each is after `age`, more or less."""
    return age * _AGE_JITTER


def _weigh_over(paths: Iterable[Path], most: int) -> bool:
    total = 0
    for path in paths:
        for size in _sizes(path):
            total += size
            if total > most:
                return True
    return False


def _sizes(path: Path) -> Iterator[int]:
    """Sizes of a file, or of those in a folder; what cannot be looked at is found when it is read."""
    try:
        if path.is_dir():
            yield from (file.stat().st_size for file in path.rglob("*") if file.is_file())
        elif path.is_file():
            yield path.stat().st_size
    except OSError:
        return

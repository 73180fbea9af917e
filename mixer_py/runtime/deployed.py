"""What workers decide with, as the supervisor keeps it for those that start later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mixer_py.config.configuration import Configuration


@dataclass(frozen=True, slots=True)
class Deployed:
    """What the workers decide with.

    Attributes:
        configuration: the settings in force.
        revision: of the snapshot.
        description: for `/policies` and `/rlconfig`.
        sources: file of what was read to build it, for workers that start later.
        cost: seconds of CPU that a worker took to read and build it.
        fetched: files of what was fetched for it, by the keys of their sources.
    """

    configuration: Configuration
    revision: str = ""
    description: Mapping[str, object] = field(default_factory=dict)
    sources: Path | None = None
    cost: float = 0.0
    fetched: Mapping[str, Path] = field(default_factory=dict)

    def decides_as(self, other: Deployed) -> bool:
        """Whether it makes no difference which of the two is in force."""
        return (self.revision, self.configuration) == (other.revision, other.configuration)

"""Where the tables stand: which database, for how long, on one server or on a cluster.

Not for: what stands in them (`columns.py`, `rollups.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LOCAL: Final = "_local"
"""What is put behind a table's name for the part of it that one server of a cluster holds."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A database's layout.

    Attributes:
        database: its name; needs no quoting.
        retention: seconds that rows are kept, by table, and by `rollups` for all roll-ups; what is not named keeps them
            for ever.
        cluster: name of the ClickHouse cluster; empty for one server.

    Raises:
        ValueError: a name that would need quoting.
    """

    database: str
    retention: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    cluster: str = ""

    def __post_init__(self) -> None:
        for what, name in (("database", self.database), ("cluster", self.cluster or "none")):
            if _NAME.fullmatch(name) is None:
                raise ValueError(f"{name!r} cannot be a {what}'s name; use letters, digits and underscores")

    def stored(self, table: str) -> str:
        """The table that holds rows, with its database: rows are inserted there."""
        return f"{self.database}.{table}{LOCAL if self.cluster else ''}"

    def read(self, table: str) -> str:
        """The table that is asked, with its database."""
        return f"{self.database}.{table}"

    @property
    def on_cluster(self) -> str:
        """What stands behind a name in statements that make or change something."""
        return f" ON CLUSTER '{self.cluster}'" if self.cluster else ""

    def engine(self, family: str) -> str:
        """The engine of a table that holds rows: `MergeTree` or `AggregatingMergeTree`, replicated on a cluster."""
        return f"Replicated{family}" if self.cluster else family

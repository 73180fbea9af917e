"""What is counted of a server that keeps counters."""

from __future__ import annotations

from typing import Final

from mixer_py.instruments import Registry
from mixer_py.instruments.store_errors import store_errors

_BATCHES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
_MOST_NODES: Final = 1000
"""Masters that a cluster has at most."""


class StoreInstruments:
    """Cells of every server of one store."""

    def __init__(self, registry: Registry) -> None:
        """Declares them.

        Args:
            registry: gets `mixer_store_errors_total{reason}`, `mixer_counter_store_up{node}`,
                `mixer_counter_store_opened_total{node,reason}`, `mixer_counter_store_seconds` and
                `mixer_counter_store_charges`.
        """
        self._failed = store_errors(registry)
        self._up = registry.gauge(
            "mixer_counter_store_up",
            "Workers that can charge counters at this server of the counter store.",
            ("node",),
            max_label_sets=_MOST_NODES,
        )
        self._opened = registry.counter(
            "mixer_counter_store_opened_total",
            "How often the breaker before a server of the counter store opened, by reason.",
            ("node", "reason"),
            max_label_sets=_MOST_NODES,
        )
        self.seconds = registry.histogram(
            "mixer_counter_store_seconds", "From a call of the counter store to its reply."
        ).labels()
        self.charges = registry.histogram(
            "mixer_counter_store_charges", "Charges made in one call of the counter store.", bounds=_BATCHES
        ).labels()

    def failed(self, reason: str, calls: int = 1) -> None:
        """Counts calls that were not kept."""
        self._failed.labels(reason).add(calls)

    def up(self, node: str, *, now: bool) -> None:
        """Says whether a server can be used."""
        self._up.labels(node).set(float(now))

    def opened(self, node: str, reason: str) -> None:
        """Counts a breaker that opened."""
        self._opened.labels(node, reason).add()

"""What stores of rows and of counters could not keep: one metric, whichever process and store it is."""

from __future__ import annotations

from mixer_py.instruments.metrics import Counter, Family, Registry


def store_errors(registry: Registry) -> Family[Counter]:
    """The counter, by `reason`."""
    return registry.counter("mixer_store_errors_total", "What a store could not keep, by reason.", ("reason",))

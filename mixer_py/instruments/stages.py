"""The time that the stages of a call take: one histogram for all services."""

from __future__ import annotations

from mixer_py.instruments.metrics import Family, Histogram, Registry


def stage_durations(registry: Registry) -> Family[Histogram]:
    """Seconds by `service`, `stage` and `outcome`, failed calls included."""
    return registry.histogram(
        "mixer_stage_duration_seconds", "Time that a stage of a call took.", ("service", "stage", "outcome")
    )

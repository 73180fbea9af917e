"""What a registry of this process says: sums of its series, and waiting for one. Not for a running mixer's /metrics."""

from __future__ import annotations

import asyncio

from mixer_py.instruments import Registry


def booked(registry: Registry, name: str, **labels: str) -> float:
    """The sum of the series of that name that have at least these labels."""
    return sum(
        values[0]
        for series, values in registry.read()
        if series.name == name and labels.items() <= dict(series.labels).items()
    )


async def until_written(registry: Registry, count: int, seconds: float = 60) -> None:
    """Returns when so many rows of `decisions` are booked as written, which is later than they can be read."""
    async with asyncio.timeout(seconds):
        while booked(registry, "mixer_rows_total", table="decisions", state="written") < count:
            await asyncio.sleep(0.01)

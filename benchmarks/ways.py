"""The ways from Envoy to mixer that are held against one another, each with its processes.

Not for: what is sent through them (`fixed_rates.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxies import around_mixer, proxy
from servers import Mixer, free_port

SETUPS: Final = {
    "without": "without mixer",
    "grpcio": "mixer on grpcio",
    "envoy": "mixer on the transport envoy",
    "inside": "mixer inside that Envoy",
    "recorded": "mixer on grpcio, every request and decision kept in ClickHouse",
}
"""What is measured, and what to call it."""
ENVOY: Final = "envoy"
"""The process that carries the traffic; with mixer inside both are it."""


@dataclass(frozen=True)
class Way:
    """One that is started.

    Attributes:
        address: `host:port` where requests go.
        processes: those whose time counts, by their part.
    """

    address: str
    processes: Callable[[], Mapping[str, int]]


def start(setup: str, behind: str, limits: Path, stack: ExitStack) -> Way:
    """Starts what a setup is made of.

    Args:
        setup: key of `SETUPS`.
        behind: `host:port` of the service.
        limits: file of rate limits.
        stack: ends it.
    """
    rate_limit = {"config": [str(limits)]}
    if setup == "inside":
        port, logs = free_port(), f"127.0.0.1:{free_port()}"
        bootstrap = around_mixer(port, behind, logs)
        within = stack.enter_context(Mixer("mixer inside", rate_limit=rate_limit, logs=logs, data_plane=bootstrap))
        return Way(f"127.0.0.1:{port}", lambda: _as_envoy(within.processes()))
    mixer, logs = None, ""
    if setup == "envoy":
        logs = f"127.0.0.1:{free_port()}"
        mixer = Mixer("mixer on envoy", rate_limit=rate_limit, logs=logs, transport="envoy")
    elif setup != "without":
        # A row a request and one a decision, as the shipped configuration has them.
        mixer = Mixer("mixer", clickhouse=setup == "recorded", rate_limit=rate_limit)
    if mixer is not None:
        stack.enter_context(mixer)
    front = stack.enter_context(proxy(f"envoy {setup}", behind, None if mixer is None else mixer.address, logs))
    return Way(front.address, lambda: {ENVOY: front.pid, **({} if mixer is None else mixer.processes())})


def _as_envoy(found: Mapping[str, int]) -> dict[str, int]:
    return {ENVOY if name == "worker" else name: pid for name, pid in found.items()}

"""Settings of the Envoy that carries traffic with mixer inside. Not for: what its bootstrap holds."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le

from mixer_py.settings import LocalPath, Settings


class DataPlaneSettings(Settings):
    """An Envoy of your own, with mixer's worker inside."""

    bootstrap: LocalPath
    """Its bootstrap, as YAML or JSON. mixer adds what is its own and starts the Envoy of `mixer-py[envoy]` with it; a
    change takes a restart."""
    threads: Annotated[int, Ge(1), Le(64)] = 1
    """Envoy's worker threads, its `--concurrency`, for each of `server.workers`. Decisions have one thread all the
    same, for which those that ask wait."""

"""A worker inside an Envoy: what pyvoy imports there. The worker is the same as anywhere.

Not for: being imported elsewhere; to import it is to start a worker.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from mixer_py.runtime.envoy_worker import CONTROL, INSIDE, TABLE
from mixer_py.transports.envoy.files import HostFiles
from mixer_py.transports.envoy.host import Asgi, EnvoyHost
from mixer_py.transports.envoy.inside import Inside


def _start() -> Inside:
    control, table = int(os.environ.pop(CONTROL)), Path(os.environ.pop(TABLE))

    async def work(host: EnvoyHost, stop: asyncio.Event) -> int:
        # Here, because it takes most of the start, and Envoy goes on meanwhile.
        from mixer_py.runtime.worker import run_worker  # noqa: PLC0415

        return await run_worker(control, table, stop, host)

    return Inside(HostFiles(table.with_suffix(".files")), INSIDE, work)


_INSIDE = _start()


def __getattr__(name: str) -> Asgi:
    """What answers at a listener: pyvoy asks for an attribute of this module."""
    return _INSIDE.find(name)

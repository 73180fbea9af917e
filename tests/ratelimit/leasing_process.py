"""A process that asks for one leased counter until it is refused, and leaves a byte in a file for each hit let in.

`python -m tests.ratelimit.leasing_process SETTINGS FILE ALGORITHM LIMIT LEASE`; SETTINGS are those of `rate_limit`, as
JSON. The file's length is what was let in, whatever becomes of the process. SIGTERM ends it as it ends a worker.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

from mixer_py.errors import CounterStoreError
from mixer_py.instruments import Registry, SystemClock
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores.opening import open_store
from tests.ratelimit.leasing import leased

SECONDS = 30 * 86_400
"""Of a window, so long that hardly ever one ends while a test runs."""
_REFUSALS = 5
_PAUSE = 0.001


async def run(settings: RateLimitSettings, file: int, algorithm: str, limit: int, lease: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    store = open_store(settings, Registry(), SystemClock())
    store.open()
    charge = leased(algorithm=algorithm, limit=limit, lease=lease, seconds=SECONDS)
    refused = 0
    while refused < _REFUSALS and not stop.is_set():
        try:
            (tally,) = await store.charge([charge])
        except CounterStoreError:
            tally = None
        if tally is not None and tally.admitted:
            os.write(file, b".")
        elif tally is not None:
            refused += 1
        await asyncio.sleep(_PAUSE)
    await store.close()


if __name__ == "__main__":
    given, path, *rest = sys.argv[1:]
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    asyncio.run(run(RateLimitSettings.model_validate(json.loads(given)), opened, rest[0], int(rest[1]), int(rest[2])))

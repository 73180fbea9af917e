"""When a worker's memory is looked through: after an order, never during a call."""

from __future__ import annotations

import gc


def settle() -> None:
    """Lets go of the policies that are no longer used, and leaves what is used to itself.

    Here and now, because an engine that the collector finds in another thread can never be freed: it belongs to the
    thread that made it. What is left lives for long, so the collector need not look at it again.
    """
    gc.collect()
    gc.freeze()

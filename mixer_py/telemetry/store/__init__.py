"""The embedded ClickHouse (chDB) in a process of its own: what it speaks, what it does, and how it is reached."""

from mixer_py.telemetry.store.client import StoreClient
from mixer_py.telemetry.store.protocol import QueryLimits

__all__ = ["QueryLimits", "StoreClient"]

"""Supervisor, worker, store process, snapshot and reload."""

from mixer_py.runtime import plain_logs  # noqa: F401 (before any of them loads structlog)

"""Supervisor, worker, store process, snapshot and reload."""

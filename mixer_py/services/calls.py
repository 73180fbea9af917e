"""Re-exported for now: see mixer_py/calls.py."""

from mixer_py.calls import Call

__all__ = ["Call"]

"""A child that does nothing until it is told to end."""

from __future__ import annotations

import signal

if __name__ == "__main__":
    signal.pause()

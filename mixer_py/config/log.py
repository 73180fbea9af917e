"""Settings of the program's own log. Not for: access logs and decisions, which are rows (`telemetry`)."""

from __future__ import annotations

from typing import Literal

from mixer_py.settings import Settings


class LogSettings(Settings):
    """What the program says about itself on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe event that is written."""
    format: Literal["json", "console"] = "json"
    """One JSON object a line, or text for a person."""

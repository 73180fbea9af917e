"""What an examination found about one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

State = Literal["good", "warning", "fault", "skipped"]

_UNITS: Final = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        state: `fault` keeps something from working, `warning` will or may, `skipped` could not be looked at.
        subject: the thing, as a person calls it.
        message: what was seen.
        place: the key of the configuration, or the place in a file.
        way_out: what to do about it; empty when there is nothing to do.
    """

    state: State
    subject: str
    message: str
    place: str = ""
    way_out: str = ""


def good(subject: str, message: str, place: str = "") -> Finding:
    """It is as it should be."""
    return Finding("good", subject, message, place)


def warning(subject: str, message: str, way_out: str, place: str = "") -> Finding:
    """It works, and will or may not."""
    return Finding("warning", subject, message, place, way_out)


def fault(subject: str, message: str, way_out: str, place: str = "") -> Finding:
    """It does not work."""
    return Finding("fault", subject, message, place, way_out)


def skipped(subject: str, message: str, way_out: str = "") -> Finding:
    """It could not be looked at."""
    return Finding("skipped", subject, message, "", way_out)


def about(size: int) -> str:
    """A number of bytes as a person says it."""
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"

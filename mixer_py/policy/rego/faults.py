"""What the engine's errors say, as faults with file and line, without their backtraces and drawings of the source."""

from __future__ import annotations

import re
from typing import Final

from mixer_py.errors import Fault

OWN_FILES: Final = "mixer/"
"""Beginning of the names of modules that no author wrote; a fault does not point there."""

_PLACE: Final = re.compile(r"^--> (?P<file>.*):(?P<line>\d+):(?P<column>\d+)$", re.MULTILINE)
_OF_VERSION_ZERO: Final = (
    "`if` keyword is required before rule body",
    "`contains` keyword is required for partial set rules",
    "rule must have a body or assignment",
)
"""What the engine says of modules in Rego v1 that are well-formed in v0, or may be."""
_WAY_TO_VERSION_ZERO: Final = "for Rego v0, set policy.rego_version: v0"
_MESSAGE: Final = re.compile(r"^error: (?P<message>.*)$", re.MULTILINE)


def error_text(error: BaseException) -> str:
    """An engine's error without its backtrace."""
    return str(error).partition("\nStack backtrace:")[0].strip()


def engine_fault(error: BaseException, file: str = "") -> Fault:
    """The fault that an engine's error tells of."""
    text = error_text(error)
    place, found = _PLACE.search(text), _MESSAGE.search(text)
    message = found["message"] if found else text
    way_out = _WAY_TO_VERSION_ZERO if message in _OF_VERSION_ZERO else ""
    if place is None or place["file"].startswith(OWN_FILES):
        return Fault(message, file, way_out=way_out)
    return Fault(message, place["file"], int(place["line"]), way_out=way_out)

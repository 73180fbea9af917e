"""What the engine's errors say, as faults with file and line, without their backtraces and drawings of the source."""

from __future__ import annotations

import re
from typing import Final

from mixer_py.errors import Fault

OWN_FILES: Final = "mixer/"
"""Beginning of the names of modules that no author wrote; a fault does not point there."""

_PLACE: Final = re.compile(r"^--> (?P<file>.*):(?P<line>\d+):(?P<column>\d+)$", re.MULTILINE)
_MESSAGE: Final = re.compile(r"^error: (?P<message>.*)$", re.MULTILINE)


def error_text(error: BaseException) -> str:
    """An engine's error without its backtrace."""
    return str(error).partition("\nStack backtrace:")[0].strip()


def engine_fault(error: BaseException, file: str = "") -> Fault:
    """The fault that an engine's error tells of."""
    text = error_text(error)
    place, message = _PLACE.search(text), _MESSAGE.search(text)
    if place is None or place["file"].startswith(OWN_FILES):
        return Fault(message["message"] if message else text, file)
    return Fault(message["message"] if message else text, place["file"], int(place["line"]))

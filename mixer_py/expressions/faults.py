"""What is wrong in the text of an expression, and where. Not for: evaluations that fail (`errors.ExpressionError`)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from mixer_py.errors import Fault


@dataclass(frozen=True, slots=True)
class Place:
    """Where the text of an expression stands, for its faults.

    Attributes:
        file: path of the file; empty when unknown.
        line: 1-based line in `file`; 0 when unknown.
        field: dotted name of the key.
    """

    file: str = ""
    line: int = 0
    field: str = ""


class MistakeError(Exception):
    """A mistake in the text of an expression; `compiling` turns it into a `Fault`.

    Attributes:
        at: offset in the text, in characters.
        message: what is wrong.
        way_out: what to do about it; empty when the message says it all.
    """

    def __init__(self, at: int, message: str, way_out: str = "") -> None:
        super().__init__(message)
        self.at = at
        self.message = message
        self.way_out = way_out

    def fault(self, text: str, place: Place) -> Fault:
        """The fault, with the column, and the line when the text has several."""
        line = text.count("\n", 0, self.at) + 1
        column = self.at - (text.rfind("\n", 0, self.at) + 1) + 1
        where = f"line {line}, column {column}" if "\n" in text.strip("\n") else f"column {column}"
        return Fault(f"{where}: {self.message}", place.file, place.line, place.field, self.way_out)


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """A way out that names the nearest of what is known; empty when none is near."""
    close = difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else ""

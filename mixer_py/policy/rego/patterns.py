"""Regular expressions of Go, as OPA has them, written for the embedded engine, whose classes know all of Unicode.

Only for patterns that are written out in a policy; one that is computed means what the engine takes it for.
"""

from __future__ import annotations

import re
from typing import Final

_CLASSES: Final = {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\t\n\f\r "}
_REPETITION: Final = re.compile(r"\{[0-9]+(?:,[0-9]*)?\}")
_OPERATORS: Final = frozenset({"&&", "--", "~~"})
_NAMED: Final = re.compile(r"\[:\^?[a-z]+:\]")


def translate(pattern: str) -> str:
    """The pattern in the engine's syntax; what is wrong with it stays wrong."""
    written: list[str] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if character == "[":
            text, position = _class(pattern, position)
            written.append(text)
        elif character == "\\":
            text, position = _escape(pattern, position)
            written.append(text)
        elif character == "{" and _REPETITION.match(pattern, position) is None:
            written.append(r"\{")
            position += 1
        else:
            written.append(character)
            position += 1
    return "".join(written)


def _escape(pattern: str, position: int) -> tuple[str, int]:
    """An escape outside of classes, and the position behind it."""
    letter = pattern[position + 1 : position + 2]
    if letter == "Q":
        end = pattern.find("\\E", position)
        literal = pattern[position + 2 : end if end >= 0 else len(pattern)]
        return re.escape(literal), end + 2 if end >= 0 else len(pattern)
    if letter == "b":
        return r"(?-u:\b)", position + 2
    if letter in _CLASSES:
        return f"[{_CLASSES[letter]}]", position + 2
    if letter.lower() in _CLASSES:
        return f"[^{_CLASSES[letter.lower()]}]", position + 2
    return pattern[position : position + 2], position + 2


def _class(pattern: str, position: int) -> tuple[str, int]:
    """A class in brackets, and the position behind it."""
    start = position + (2 if pattern.startswith("[^", position) else 1)
    written = [pattern[position:start]]
    position = start
    while position < len(pattern) and (pattern[position] != "]" or position == start):
        named = _NAMED.match(pattern, position)
        letter = pattern[position + 1 : position + 2]
        if named is not None:
            written.append(named[0])
            position = named.end()
        elif pattern[position] == "\\" and letter.lower() in _CLASSES and letter:
            inner = _CLASSES[letter.lower()]
            written.append(inner if letter.islower() else f"[^{inner}]")
            position += 2
            if pattern.startswith("-", position):  # a class begins no range
                written.append("\\-")
                position += 1
        elif pattern[position] == "\\":
            written.append(pattern[position : position + 2])
            position += 2
        elif pattern.startswith("--", position) and position > start:  # a range up to the hyphen
            written.append(r"-\-")
            position += 2
        else:
            doubled = pattern[position : position + 2] in _OPERATORS
            written.append(f"\\{pattern[position]}" if doubled or pattern[position] in "[]" else pattern[position])
            position += 1
    return "".join([*written, pattern[position : position + 1]]), position + 1

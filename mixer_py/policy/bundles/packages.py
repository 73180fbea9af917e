"""The package of a Rego module, from its text alone: for the roots of a manifest, before anything is compiled."""

from __future__ import annotations

import re

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*(?:\n|\Z))*")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY = re.compile(r'\[[ \t]*"([^"\\\n]*)"[ \t]*\]')


def package_of(text: str) -> tuple[str, ...] | None:
    """The segments of the module's package; None when it does not begin with a declaration that can be read.

    Who has to trust the answer treats None as a fault: it stands for escapes and for whatever else is unusual.
    """
    word = _WORD.match(text, _end(_BLANK, text, 0))
    if word is None or word[0] != "package":
        return None
    begin = _end(_BLANK, text, word.end())
    if begin == word.end():
        return None
    name = _WORD.match(text, begin)
    if name is None:
        return None
    segments, position = [name[0]], name.end()
    while position < len(text) and text[position] in ".[":
        part = _WORD.match(text, position + 1) if text[position] == "." else _KEY.match(text, position)
        if part is None:
            return None
        segments.append(part[0] if text[position] == "." else part[1])
        position = part.end()
    if position < len(text) and text[position] not in " \t\r\n#;":
        return None
    return tuple(segments)


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    found = pattern.match(text, position)
    return found.end() if found else position

"""Descriptors as people write them: `tenant=gold,path="/a,b"`.

A part stands in JSON quotes where it holds a comma or begins with a quote, as in the names of rules; a key also where
it holds `=`. Not for: descriptors on the wire.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import orjson

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_BARE_KEY = re.compile(r'[^=,"][^=,]*')
_BARE_VALUE = re.compile(r'(?:[^,"][^,]*)?')


class WrittenEntry(NamedTuple):
    """One key and its value; a `rules.Entry`."""

    key: str
    value: str


def parse_descriptor(text: str) -> tuple[WrittenEntry, ...]:
    """Reads a descriptor.

    Args:
        text: entries with commas between them; an entry without `=` has an empty value.

    Raises:
        ValueError: it cannot be read; the message names the place.
    """
    entries: list[WrittenEntry] = []
    position = 0
    while True:
        key, position = _part(text, position, _BARE_KEY, "a key")
        if not key:
            raise ValueError(f"at character {position + 1} of {text!r} a key is empty")
        value = ""
        if text[position : position + 1] == "=":
            value, position = _part(text, position + 1, _BARE_VALUE, "a value")
        entries.append(WrittenEntry(key, value))
        if position == len(text):
            return tuple(entries)
        if text[position] != ",":
            raise ValueError(f"at character {position + 1} of {text!r} a comma was expected")
        position += 1


def write_descriptor(entries: Iterable[WrittenEntry]) -> str:
    """The text that `parse_descriptor` reads back."""
    return ",".join(f"{_written(key, _BARE_KEY)}={_written(value, _BARE_VALUE)}" for key, value in entries)


def _written(part: str, bare: re.Pattern[str]) -> str:
    return part if bare.fullmatch(part) else orjson.dumps(part).decode()


def _part(text: str, position: int, bare: re.Pattern[str], what: str) -> tuple[str, int]:
    quoted = _QUOTED.match(text, position)
    if quoted is not None:
        try:
            part: str = orjson.loads(quoted[0])
        except orjson.JSONDecodeError:
            raise ValueError(f"{quoted[0]} at character {position + 1} is no JSON string") from None
        return part, quoted.end()
    if text.startswith('"', position):
        raise ValueError(f"the quote at character {position + 1} of {text!r} does not end")
    found = bare.match(text, position)
    if found is None:
        raise ValueError(f"at character {position + 1} of {text!r} {what} was expected")
    return found[0], found.end()

"""Places in a JSON document: pointers as OPA's masks write them, and a document with something else at a place.

Nothing is changed in place; what stands on the way to a place is copied. JSON text that a document holds as an
`orjson.Fragment` is opened where a path leads into it, its numbers kept digit by digit.
"""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import unquote

import orjson

Segments = tuple[str, ...]

ANY: Final = "*"
"""A segment that stands for any one key or item."""


def segments_of(path: str) -> Segments:
    """The keys of a path, without the `input` or `result` that it begins with."""
    return tuple(path.split("/")[2:])


def below(path: str, key: str | int) -> str:
    """The path of a member or an item."""
    return f"{path}/{key}"


def thawed(fragment: orjson.Fragment) -> Any:  # noqa: ANN401 (JSON)
    """The JSON value of a fragment; its numbers are fragments again, because they may have more digits than a float."""
    return json.loads(orjson.dumps(fragment), parse_int=_number, parse_float=_number)


def _number(digits: str) -> orjson.Fragment:
    return orjson.Fragment(digits)


def replaced(value: Any, segments: Segments, new: object, path: str, found: list[str]) -> Any:  # noqa: ANN401 (JSON)
    """The document with another value at every place that the segments lead to.

    Args:
        value: the document, not changed.
        segments: keys and indices; `*` is any one.
        new: what shall stand there.
        path: of `value`, for `found`.
        found: gets the path of every place where something stood.
    """
    if not segments:
        found.append(path)
        return new
    if isinstance(value, orjson.Fragment):
        value = thawed(value)
    first, rest = segments[0], segments[1:]
    if isinstance(value, dict):
        keys = list(value) if first == ANY else [key for key in (key_in(value, first),) if key is not None]
        return value | {key: replaced(value[key], rest, new, below(path, key), found) for key in keys}
    if isinstance(value, list):
        items = list(value)
        indices = range(len(items)) if first == ANY else index_in(items, first)
        for index in indices:
            items[index] = replaced(items[index], rest, new, below(path, index), found)
        return items
    return value


def key_in(members: dict[str, Any], segment: str) -> str | None:
    """The key that a segment means: itself, else what it is without JSON pointer's or percent escapes."""
    for key in (segment, segment.replace("~1", "/").replace("~0", "~"), unquote(segment)):
        if key in members:
            return key
    return None


def index_in(items: list[Any], segment: str) -> range:
    """The index that a segment means, as a range of one or none."""
    if not segment.isdecimal() or not segment.isascii() or int(segment) >= len(items):
        return range(0)
    return range(int(segment), int(segment) + 1)

"""JSON as OPA reads and writes it: `json.is_valid`, and what tokens and keys are made of.

Numbers are Python's; one that the engine cannot take (beyond 64 bits) makes the builtin that returns it an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import orjson

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ESCAPED: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_TO_ESCAPE: Final = re.compile("[<>&\u2028\u2029]")
_RANKS: Final[tuple[Any, ...]] = (type(None), bool, (int, float), str, (list, tuple), Mapping, (set, frozenset))


def is_valid_json(text: object) -> bool:
    """`json.is_valid(x)`; what is no string is no JSON."""
    if not isinstance(text, str):
        return False
    try:
        json.loads(text, parse_constant=_no_number, parse_int=_ignore, parse_float=_ignore)
    except (ValueError, RecursionError):
        return False
    return True


def parse_json(content: bytes) -> Any:  # noqa: ANN401 (any JSON)
    """The value of a JSON text; bytes and escapes that are no characters become U+FFFD, the last of equal keys wins.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return _without_surrogates(json.loads(content.decode(errors="replace"), parse_constant=_no_number))


def write_json(value: object) -> str:
    """JSON as Go writes it: keys in order, no spaces, and what HTML would read escaped."""
    if isinstance(value, str):
        return _TO_ESCAPE.sub(lambda found: _ESCAPED[found[0]], json.dumps(value, ensure_ascii=False))
    if isinstance(value, Mapping):
        members = sorted((key if isinstance(key, str) else write_json(key), item) for key, item in value.items())
        return "{" + ",".join(f"{write_json(key)}:{write_json(item)}" for key, item in members) + "}"
    if isinstance(value, set | frozenset):
        return write_json(sorted(value, key=order))
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(write_json, value)) + "]"
    return json.dumps(value, allow_nan=False)


def order(value: object) -> tuple[int, Any]:
    """A key that sorts values as Rego does: null, booleans, numbers, strings, arrays, objects, sets."""
    rank = next(
        index
        for index, kind in enumerate(_RANKS)
        if isinstance(value, kind) and not (isinstance(value, bool) and index > 1)
    )
    if isinstance(value, Mapping):
        items = sorted(((order(key), order(item)) for key, item in value.items()), key=lambda item: item[0])
        return rank, ([key for key, _ in items], [item for _, item in items])
    if isinstance(value, set | frozenset):
        return rank, sorted(map(order, value))
    if isinstance(value, list | tuple):
        return rank, list(map(order, value))
    return rank, 0 if value is None else value


def _ignore(_: str) -> None:
    return None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _without_surrogates(value: Any) -> Any:  # noqa: ANN401 (any JSON)
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value

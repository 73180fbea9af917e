"""JSON that a person wrote, with the place of what is wrong in it."""

from __future__ import annotations

import json

from mixer_py.errors import ConfigurationError, Fault


def read_json(text: bytes, source: str) -> object:
    """The document.

    Args:
        text: UTF-8.
        source: what to call it in an error.

    Raises:
        ConfigurationError: it is no JSON, or names a key twice.
    """
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise ConfigurationError([Fault("is not UTF-8 text", source, line)]) from None
    try:
        return json.loads(decoded, object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        message = f"is not JSON: {error.msg} at column {error.colno}"
        raise ConfigurationError([Fault(message, source, error.lineno)]) from None
    except ValueError as error:  # from the hooks below, and numbers too long to be read
        raise ConfigurationError([Fault(f"is not JSON: {error}", source)]) from None
    except RecursionError:
        raise ConfigurationError([Fault("is nested too deeply", source)]) from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return members


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")

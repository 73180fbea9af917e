"""What is refused although its types fit: it could only fail, or could cost more than can be told beforehand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mixer_py.expressions import tree
from mixer_py.expressions.faults import MistakeError
from mixer_py.expressions.syntax import Node, start
from mixer_py.expressions.types import KEYS, Type

KEY_WAY_OUT: Final = "use a string, an int or a bool"
_DEEPEST_TYPE: Final = 2
_OF_HEADERS: Final = ("headers", "trailers")
"""How the names of such maps end, of attributes as of columns."""


def check_depth(node: Node, kind: Type) -> Type:
    """The type itself, unless lists and maps stand in one another more deeply than their cost can be told."""
    if kind.depth > _DEEPEST_TYPE:
        raise MistakeError(node.at, f"lists and maps nest {_DEEPEST_TYPE} deep at most, and this is {kind.one}")
    return kind


def check_key(node: Node, container: tree.Typed, key: tree.Typed) -> None:
    """Refuses a key that the map can never have, or that none can, which only an empty one leaves open."""
    if key.type not in KEYS:
        raise MistakeError(node.at, f"{key.type.one} is no key of a map", KEY_WAY_OUT)
    if isinstance(container, tree.Attribute) and isinstance(key, tree.Constant) and isinstance(key.value, str):
        lower = key.value.lower()
        if container.name.endswith(_OF_HEADERS) and key.value != lower:
            raise MistakeError(
                node.at, f"names of headers are in lower case, and {key.value!r} is not", f"write {lower}"
            )


def prepared(
    prepare: Callable[[str], tuple[object, int]], name: str, node: Node, argument: tree.Typed
) -> tree.Prepared:
    """The last argument of a function that wants a literal there."""
    if not isinstance(argument, tree.Constant) or not isinstance(argument.value, str):
        message = f"the last argument of {name} has to be a literal, because it is prepared before any request"
        raise MistakeError(start(node), message, "write it in quotes")
    try:
        return tree.Prepared(argument.type, *prepare(argument.value))
    except ValueError as error:
        raise MistakeError(start(node), str(error)) from error

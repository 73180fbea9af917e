"""Pydantic's errors as faults: the place, the dotted key, what is wrong there in one sentence, and the way out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

from pydantic_core import ErrorDetails

from mixer_py.config.definition import Shape
from mixer_py.config.tree import Node
from mixer_py.errors import Fault

_SHOWN = 80  # characters of a wrong value that an error repeats

_KINDS = {
    "string_type": "text",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping of keys to values",
    "mapping_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "above"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "below"),
}
_WAYS_OUT = {
    "string_type": "put it in quotes",
    "list_type": "write it as [a, b], or one item a line after a dash",
    "tuple_type": "write it as [a, b], or one item a line after a dash",
}


def faults_of(details: Sequence[ErrorDetails], root: Node, shape: Shape) -> list[Fault]:
    """One fault for each thing that is wrong, however many alternatives of a union it failed."""
    found: dict[tuple[str, int, str], Fault] = {}
    for detail in details:
        node, path, inner = node_at(root, shape, detail["loc"])
        secret = inner is None or inner.secret or _below_secret(shape, path)
        message, way_out = _explain(detail, node, secret=secret)
        field = node.place.name or ".".join(path)
        fault = Fault(message, node.place.file, node.place.line, field, way_out)
        found.setdefault((fault.file, fault.line, fault.field), fault)
    return list(found.values())


def node_at(root: Node, shape: Shape, location: tuple[int | str, ...]) -> tuple[Node, tuple[str, ...], Shape | None]:
    """The node that pydantic speaks of, its path and its shape.

    A location also names alternatives of unions, which no node has: they are skipped. When the key itself was not
    written, the node is the section that lacks it.
    """
    node, inner = root, shape
    path: tuple[str, ...] = ()
    for step in location:
        child_shape = inner.child(step)
        child = node.child(step)
        if child_shape is None:
            continue
        path = (*path, str(step))
        inner = child_shape
        if child is None:
            break
        node = child
    return node, path, inner


def _below_secret(shape: Shape, path: Sequence[str]) -> bool:
    inner: Shape | None = shape
    for step in path:
        inner = inner.child(step) if inner is not None else None
        if inner is not None and inner.secret:
            return True
    return False


def _explain(detail: ErrorDetails, node: Node, *, secret: bool) -> tuple[str, str]:
    """What is wrong, and the way out."""
    kind = detail["type"]
    if kind == "missing":
        return "is missing", ""
    if kind in _KINDS:
        return _wrong_kind(detail, node, secret=secret)
    if kind == "value_error":
        return str(detail["ctx"]["error"]), ""
    return _wrong_value(detail, "the value" if secret else _show(detail["input"]))


def _wrong_kind(detail: ErrorDetails, node: Node, *, secret: bool) -> tuple[str, str]:
    if secret:
        return "is not a secret", "write it as text or as {file: path}"
    scalar = node.value is not None and not isinstance(node.value, (dict, list))
    return f"{_show(detail['input'])} is not {_KINDS[detail['type']]}", _WAYS_OUT.get(detail["type"], "") * scalar


def _wrong_value(detail: ErrorDetails, shown: str) -> tuple[str, str]:
    kind = detail["type"]
    context: dict[str, Any] = detail.get("ctx", {})
    if kind in _BOUNDS:
        name, word = _BOUNDS[kind]
        return f"{shown} is not {word} {context[name]}", ""
    if kind in {"literal_error", "enum"}:
        options = re.findall(r"'([^']*)'", str(context["expected"]))
        close = difflib.get_close_matches(str(detail["input"]), options, n=1, cutoff=0.6)
        return f"{shown} is not one of {', '.join(options)}", f"did you mean {close[0]}?" if close else ""
    message = detail["msg"]
    return f"{message[:1].lower()}{message[1:]}", ""


def _show(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"

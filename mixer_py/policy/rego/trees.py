"""The engine's syntax trees, which are JSON: walking them and reading references off them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def objects_below(*roots: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 (JSON)
    """Every object at and below some nodes, each before those in it; siblings from the last to the first."""
    pending: list[Any] = list(roots)
    while pending:
        current = pending.pop()
        if isinstance(current, list):
            pending.extend(current)
        elif isinstance(current, dict):
            yield current
            pending.extend(value for value in current.values() if isinstance(value, (dict, list)))


def modifiers_below(*roots: Any) -> Iterator[Any]:  # noqa: ANN401 (JSON)
    """Every `with` below some nodes."""
    return (modifier for found in objects_below(*roots) for modifier in found.get("with_mods", ()))


def ref_path(node: Any) -> tuple[str, ...] | None:  # noqa: ANN401 (a node of the engine's syntax tree, which is JSON)
    """Parts of a constant reference such as `data.a["b"]`; None when it is no constant one."""
    parts: list[str] = []
    while True:
        ((kind, value),) = node.items()
        if kind == "Var":
            return (value["value"], *reversed(parts))
        if kind == "RefDot":
            parts.append(value["field"][1])
        elif kind == "RefBrack" and "String" in value["index"]:
            parts.append(value["index"]["String"]["value"])
        else:
            return None
        node = value["refr"]


def span_of(node: Any) -> Any:  # noqa: ANN401 (JSON)
    """Where a node stands: `line`, `col`, `start` and `end` in bytes of UTF-8; a string's without its quotes."""
    (content,) = node.values()
    return content["span"]


def package_of(module: Any) -> tuple[str, ...]:  # noqa: ANN401 (JSON)
    """A module's package, with `data`."""
    return ("data", *(ref_path(module["package"]["refr"]) or ()))

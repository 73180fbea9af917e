"""The engine's syntax trees, which are JSON: walking them and reading references off them."""

from __future__ import annotations

from typing import Any


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
    """Where a node stands: line and column, start and end in bytes."""
    (content,) = node.values()
    return content["span"]


def package_of(module: Any) -> tuple[str, ...]:  # noqa: ANN401 (JSON)
    """A module's package, with `data`."""
    return ("data", *(ref_path(module["package"]["refr"]) or ()))

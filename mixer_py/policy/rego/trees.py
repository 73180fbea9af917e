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

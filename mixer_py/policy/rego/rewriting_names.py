"""What a definition does with names: which it declares, and which `some` or `=` may bind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mixer_py.policy.rego.groups import Definition


def _nodes(*roots: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 (JSON)
    """All nodes below some, with their kinds."""
    pending: list[Any] = list(roots)
    while pending:
        current = pending.pop()
        if isinstance(current, list):
            pending.extend(current)
        elif isinstance(current, dict):
            yield from current.items()
            pending.extend(value for value in current.values() if isinstance(value, (dict, list)))


def kinds_below(node: Any) -> set[str]:  # noqa: ANN401 (JSON)
    """The kinds of all nodes at and below one."""
    return {kind for kind, _ in _nodes(node)}


def _variables(pattern: Any) -> Iterator[str]:  # noqa: ANN401 (JSON)
    return (value["value"] for kind, value in _nodes(pattern) if kind == "Var")


def _source(definition: Definition, span: Any) -> str:  # noqa: ANN401 (JSON)
    text: bytes = definition.tree["source"]["contents"].encode()
    return text[span["start"] : span["end"]].decode()


def declared(definition: Definition) -> set[str]:
    """Names that a definition declares by `:=`, `some`, `every` or as arguments."""
    names: set[str] = set(_variables(list(definition.arguments)))
    for kind, value in _nodes(*definition.bodies, definition.key, definition.value):
        if kind == "AssignExpr" and value["op"] == "ColEq":
            names.update(_variables(value["lhs"]))
        elif kind == "SomeIn":
            names.update(_variables([value["value"], value.get("key")]))
        elif kind == "Every":
            names.update(_source(definition, value[part]) for part in ("key", "value") if value.get(part))
    return (names | declared_by_some(definition)) - {"_"}


def declared_by_some(definition: Definition) -> set[str]:
    """Names that `some x` declares, without `in`: a reference may iterate over them."""
    return {
        _source(definition, span)
        for kind, value in _nodes(*definition.bodies, definition.key, definition.value)
        if kind == "SomeVars"
        for span in value["vars"]
    }


def unified(definition: Definition) -> set[str]:
    """Names that stand on a side of `=`."""
    return {
        name
        for kind, value in _nodes(*definition.bodies, definition.key, definition.value)
        if kind == "AssignExpr" and value["op"] == "Eq"
        for name in _variables([value["lhs"], value["rhs"]])
    }

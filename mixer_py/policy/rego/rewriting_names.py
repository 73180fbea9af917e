"""What a definition does with names: which it declares, and which `some` or `=` may bind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from mixer_py.policy.rego.groups import Definition
from mixer_py.policy.rego.trees import objects_below


@dataclass(slots=True)
class Names:
    """Names of one definition.

    Attributes:
        declared: by `:=`, `some`, `every` or as arguments.
        by_some: by `some x` without `in`: a reference may iterate over them.
        unified: on a side of `=`.
    """

    declared: set[str] = field(default_factory=set)
    by_some: set[str] = field(default_factory=set)
    unified: set[str] = field(default_factory=set)


NO_NAMES: Final = Names()


def _nodes(*roots: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 (JSON)
    """All nodes below some, with their kinds."""
    return (item for found in objects_below(*roots) for item in found.items())


def kinds_below(node: Any) -> set[str]:  # noqa: ANN401 (JSON)
    """The kinds of all nodes at and below one."""
    return {kind for kind, _ in _nodes(node)}


def _variables(pattern: Any) -> Iterator[str]:  # noqa: ANN401 (JSON)
    return (value["value"] for kind, value in _nodes(pattern) if kind == "Var")


def find_names(definition: Definition) -> Names:
    """The names of a definition; `_` is none."""
    names = Names(set(_variables(list(definition.arguments))))
    for kind, value in _nodes(*definition.bodies, definition.key, definition.value):
        if kind == "AssignExpr":
            if value["op"] == "ColEq":
                names.declared.update(_variables(value["lhs"]))
            else:
                names.unified.update(_variables([value["lhs"], value["rhs"]]))
        elif kind == "SomeIn":
            names.declared.update(_variables([value["value"], value.get("key")]))
        elif kind == "SomeVars":
            names.by_some.update(map(definition.source, value["vars"]))
        elif kind == "Every":
            names.declared.update(definition.source(value[part]) for part in ("key", "value") if value.get(part))
    names.declared |= names.by_some
    names.declared.discard("_")
    return names

"""CEL's macros: `has`, and those that run over a list or the keys of a map. Not for: how they run (`generation.py`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mixer_py.expressions import tree
from mixer_py.expressions.faults import MistakeError
from mixer_py.expressions.restrictions import check_depth
from mixer_py.expressions.syntax import INDEX, Call, Name, Node, Select
from mixer_py.expressions.tokens import RESERVED
from mixer_py.expressions.types import BOOL, list_of

if TYPE_CHECKING:
    from mixer_py.expressions.checking import Checker

LOOPS: Final[dict[str, tree.LoopKind]] = {
    "all": "all", "exists": "exists", "exists_one": "exists_one", "existsOne": "exists_one", "filter": "filter",
    "map": "map",
}  # fmt: skip
"""Macros that are written as methods."""


def has(checker: Checker, node: Call) -> tree.Typed:
    """`has(a.b)`: whether an attribute has a value, or a map a key."""
    if len(node.arguments) != 1:
        raise MistakeError(node.at, "has takes one argument", "write has(a.b)")
    (argument,) = node.arguments
    if isinstance(argument, Call) and argument.function == INDEX:
        raise MistakeError(argument.at, "has tests a field, not an index", 'write "key" in a.map')
    if not isinstance(argument, Select):
        raise MistakeError(argument.at, "has tests a field", "write has(a.b)")
    found = checker.attribute(argument)
    if isinstance(found, tree.Attribute):
        return tree.HasAttribute(BOOL, found.name)
    typed = checker.check(argument)
    if not isinstance(typed, tree.Entry):
        raise MistakeError(argument.at, "has tests an attribute or the field of a map", "write has(a.b)")
    return tree.HasKey(BOOL, typed.map, typed.key)


def loop(checker: Checker, node: Call, target: Node) -> tree.Typed:
    """`range.all(x, test)` and the like."""
    kind = LOOPS[node.function]
    if len(node.arguments) not in ({2, 3} if kind == "map" else {2}):
        raise MistakeError(node.at, f"{kind} takes a name and an expression", f"write a.{kind}(x, …)")
    name, *bodies = node.arguments
    if not isinstance(name, Name) or name.text in RESERVED:
        raise MistakeError(name.at, f"the first argument of {node.function} is the name of its variable")
    over = checker.check(target)
    if over.type.name not in {"list", "map"}:
        raise MistakeError(
            node.at, f"{node.function} runs over a list or the keys of a map, and this is {over.type.one}"
        )
    with checker.variable(name.text, over.type.parameters[0]) as variable:
        tests, results = (bodies[:-1], bodies[-1:]) if kind == "map" else (bodies, [])
        test = checker.wanted(tests[0], BOOL, f"the condition of {node.function}") if tests else None
        result = checker.check(results[0]) if results else None
    value = {"filter": list_of(over.type.parameters[0])}.get(kind, BOOL)
    if result is not None:
        value = check_depth(node, list_of(result.type))
    size = sum(1 for part in (test, result) if part is not None for _ in tree.walk(part))
    return tree.Loop(value, kind, over, variable, test, result, size)

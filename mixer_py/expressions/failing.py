"""Which parts of an expression may fail, and how: what has to be put aside while other operands are asked."""

from __future__ import annotations

from mixer_py.expressions import tree
from mixer_py.expressions.types import DURATION


def fails(node: tree.Typed) -> bool:
    """Whether evaluating a node, and so what stands in it, may raise ExpressionError."""
    if isinstance(node, tree.HasKey) and isinstance(node.map, tree.Attribute):
        return fails(node.key)
    return _fails_itself(node) or any(map(fails, tree.children(node)))


def _fails_itself(node: tree.Typed) -> bool:
    """The same for a node apart from what stands in it, and apart from the budget, which nothing absorbs."""
    match node:
        case tree.Attribute() | tree.Entry() | tree.Mapping():
            return True
        case tree.Apply(_, overload, _):
            return overload.fails
        case _:
            return False


def needs_statements(node: tree.Typed) -> bool:
    """Whether a value cannot be written as one Python expression."""
    return any(
        isinstance(part, tree.Loop) or (isinstance(part, tree.Logic) and any(map(fails, part.operands)))
        for part in tree.walk(node)
    )


def reads_only(node: tree.Typed) -> bool:  # noqa: PLR0911 (one answer a kind)
    """Whether everything in it is evaluated always, and the only failure is that something is absent."""
    match node:
        case tree.Attribute(kind, _):
            return kind != DURATION
        case tree.Entry(_, container, key):
            return isinstance(container, tree.Attribute) and isinstance(key, tree.Constant)
        case tree.Constant() | tree.Prepared() | tree.Variable() | tree.HasAttribute():
            return True
        case tree.HasKey(_, container, key):
            return isinstance(container, tree.Attribute) and isinstance(key, tree.Constant)
        case tree.Apply(_, overload, arguments):
            return not overload.fails and all(map(reads_only, arguments))
        case tree.Among(_, value, _):
            return reads_only(value)
        case _:
            return False

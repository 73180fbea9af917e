"""The syntax tree of an expression, before names and types are known. Not for: meaning (`tree.py`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, a text or a truth value as it was written."""

    at: int
    value: str | int | float | bool


@dataclass(frozen=True, slots=True)
class Name:
    """A name without dots."""

    at: int
    text: str


@dataclass(frozen=True, slots=True)
class Select:
    """`operand.field`."""

    at: int
    operand: Node
    field: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function, a method of `target`, or an operator, named by its sign; `&&` and `||` have two or more operands."""

    at: int
    function: str
    target: Node | None
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class ListLiteral:
    """`[a, b]`."""

    at: int
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MapLiteral:
    """`{k: v}`."""

    at: int
    entries: tuple[tuple[Node, Node], ...]


Node = Literal | Name | Select | Call | ListLiteral | MapLiteral

INDEX = "[]"
"""The operator `a[b]`."""
CHOICE = "?:"
"""The operator `a ? b : c`."""
NEGATION = "-_"
"""The operator `-a`."""


def start(node: Node) -> int:
    """Where a name with dots begins."""
    while isinstance(node, Select):
        node = node.operand
    return node.at

"""The tree of an expression whose names and types are known. Not for: text (`syntax.py`), Python (`generation.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mixer_py.expressions.functions import Overload
from mixer_py.expressions.types import Type

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that is known, in its form of evaluation."""

    type: Type
    value: Scalar


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was made of a literal at load; in a loop the other arguments cost `cost` times as much."""

    type: Type
    value: object
    cost: int


@dataclass(frozen=True, slots=True)
class Attribute:
    """The value of an attribute."""

    type: Type
    name: str


@dataclass(frozen=True, slots=True)
class Variable:
    """The variable of a macro; `number` tells variables of one name apart."""

    type: Type
    name: str
    number: int


@dataclass(frozen=True, slots=True)
class Entry:
    """`map[key]`; it fails when the map has no such key."""

    type: Type
    map: Typed
    key: Typed


@dataclass(frozen=True, slots=True)
class HasAttribute:
    """Whether an attribute has a value."""

    type: Type
    name: str


@dataclass(frozen=True, slots=True)
class HasKey:
    """Whether a map has a key; an attribute that is absent has none."""

    type: Type
    map: Typed
    key: Typed


@dataclass(frozen=True, slots=True)
class Apply:
    """A function or operator."""

    type: Type
    overload: Overload
    arguments: tuple[Typed, ...]


@dataclass(frozen=True, slots=True)
class Among:
    """`value in [constants]`, which costs the same however many there are."""

    type: Type
    value: Typed
    constants: frozenset[Scalar]


@dataclass(frozen=True, slots=True)
class Logic:
    """`&&` or `||` over two or more operands."""

    type: Type
    conjunction: bool
    operands: tuple[Typed, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """`condition ? yes : no`."""

    type: Type
    condition: Typed
    yes: Typed
    no: Typed


@dataclass(frozen=True, slots=True)
class Listing:
    """`[a, b]`."""

    type: Type
    items: tuple[Typed, ...]


@dataclass(frozen=True, slots=True)
class Mapping:
    """`{k: v}`."""

    type: Type
    entries: tuple[tuple[Typed, Typed], ...]


LoopKind = Literal["all", "exists", "exists_one", "filter", "map"]


@dataclass(frozen=True, slots=True)
class Loop:
    """A macro over the elements of a list or the keys of a map.

    Attributes:
        type: of its value.
        kind: which macro.
        range: what it runs over.
        variable: the name that its body gives an element.
        test: of `map` the condition in front, or None.
        result: of `map` what becomes of an element, else None.
        size: names, operators, calls and literals of its body.
    """

    type: Type
    kind: LoopKind
    range: Typed
    variable: Variable
    test: Typed | None
    result: Typed | None
    size: int


Typed = (
    Constant | Prepared | Attribute | Variable | Entry | HasAttribute | HasKey | Apply | Among | Logic | Choice
    | Listing | Mapping | Loop
)  # fmt: skip


def children(node: Typed) -> tuple[Typed, ...]:
    """What stands directly within a node."""
    found: tuple[Typed | None, ...] = ()
    match node:
        case Entry(_, inner, key) | HasKey(_, inner, key):
            found = inner, key
        case Apply(_, _, arguments):
            found = arguments
        case Among(_, value, _):
            found = (value,)
        case Logic(_, _, operands):
            found = operands
        case Choice(_, condition, yes, no):
            found = condition, yes, no
        case Listing(_, items):
            found = items
        case Mapping(_, entries):
            found = tuple(part for entry in entries for part in entry)
        case Loop():
            found = node.range, node.test, node.result
        case _:
            pass
    return tuple(part for part in found if part is not None)


def walk(node: Typed) -> Iterator[Typed]:
    """A node and everything within it."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(children(node))

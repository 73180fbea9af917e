"""The names that an expression may use, and their types. Not for: values, which come with a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from mixer_py.attributes import ATTRIBUTES, Attribute
from mixer_py.attributes.vocabulary import Absent
from mixer_py.expressions.types import Type, of_attribute


@dataclass(frozen=True, slots=True)
class Scope:
    """What an expression is checked against.

    Attributes:
        types: the type of each name; a name has dots.
        lacking: names that are known but never have a value where the expression is evaluated, each with the reason.
            Using one is a fault, because the expression could only fail.
        prefixes: what stands before a dot in some name.
    """

    types: Mapping[str, Type]
    lacking: Mapping[str, str] = field(default_factory=dict)
    prefixes: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        dotted = (name.split(".") for name in (*self.types, *self.lacking))
        found = frozenset(".".join(parts[:count]) for parts in dotted for count in range(1, len(parts)))
        object.__setattr__(self, "prefixes", found)


def _of_vocabulary(lack: Callable[[Attribute], str]) -> Scope:
    lacking = {attribute.name: reason for attribute in ATTRIBUTES if (reason := lack(attribute))}
    types = {attribute.name: of_attribute(attribute.value_type) for attribute in ATTRIBUTES}
    present = {name: kind for name, kind in types.items() if name not in lacking}
    return Scope(MappingProxyType(present), MappingProxyType(lacking))


def _lacking_in_check(attribute: Attribute) -> str:
    match attribute.check:
        case Absent(reason):
            return f"a check never has it: {reason}" if reason else "a check never has it"
        case _:
            return ""


CHECK: Final = _of_vocabulary(_lacking_in_check)
"""The attributes that a check can have."""
VOCABULARY: Final = _of_vocabulary(lambda _attribute: "")
"""Every attribute, for expressions over what was logged."""

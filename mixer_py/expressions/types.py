"""The types that expressions have. Not for: attributes' own types, which `of_attribute` turns into these.

They are those of CEL's language definition that an attribute, or something made of one, can have. `uint`, `bytes`,
`null`, `type` and `dyn` are left out: no attribute needs them, and without `dyn` every type is known before a request
comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from mixer_py.attributes import ValueType


@dataclass(frozen=True, slots=True)
class Type:
    """A type, written as CEL writes it.

    Attributes:
        name: of the type, or of its constructor.
        parameters: of `list` its element; of `map` its key and its value.
    """

    name: str
    parameters: tuple[Type, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.parameters))})" if self.parameters else self.name

    @property
    def one(self) -> str:
        """A value of the type, for faults: `an int`."""
        return f"{'an' if self.name[0] in 'aeio' else 'a'} {self}"

    @property
    def depth(self) -> int:
        """How many lists and maps stand within one another: 0 for a plain value."""
        return 1 + max(parameter.depth for parameter in self.parameters) if self.parameters else 0


BOOL: Final = Type("bool")
INT: Final = Type("int")
DOUBLE: Final = Type("double")
STRING: Final = Type("string")
TIMESTAMP: Final = Type("timestamp")
"""In evaluation an int: nanoseconds since the epoch."""
DURATION: Final = Type("duration")
"""In evaluation an int: nanoseconds."""
NETWORK: Final = Type("net.CIDR")
"""A network of IP addresses."""
NOTHING: Final = Type("nothing")
"""The element of an empty list; it fits every type."""
KEYS: Final = frozenset((BOOL, INT, STRING, NOTHING))
"""What a key of a map may be."""


def list_of(element: Type) -> Type:
    """The type of a list."""
    return Type("list", (element,))


def map_of(key: Type, value: Type) -> Type:
    """The type of a map."""
    return Type("map", (key, value))


def common(one: Type, other: Type) -> Type | None:
    """The type that values of both have, or None; only an empty list or map can be of several."""
    if other in {one, NOTHING}:
        return one
    if one == NOTHING:
        return other
    if one.name != other.name or not one.parameters:
        return None
    parameters = [common(a, b) for a, b in zip(one.parameters, other.parameters, strict=True)]
    known = tuple(parameter for parameter in parameters if parameter is not None)
    return Type(one.name, known) if len(known) == len(parameters) else None


_OF_ATTRIBUTES: Final[Mapping[ValueType, Type]] = MappingProxyType({
    ValueType.STRING: STRING,
    ValueType.INT64: INT,
    ValueType.BOOL: BOOL,
    ValueType.TIMESTAMP: TIMESTAMP,
    ValueType.DURATION: DURATION,
    ValueType.IP_ADDRESS: STRING,
    ValueType.STRING_MAP: map_of(STRING, STRING),
})  # fmt: skip


def of_attribute(value_type: ValueType) -> Type:
    """The type that an attribute of that type has in an expression."""
    return _OF_ATTRIBUTES[value_type]

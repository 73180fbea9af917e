"""What a person wrote, as a tree in which every value knows where it stands.

File, environment and command line each become such trees and are laid over one another here. Not for: what a
value means (`definition.py`, and pydantic).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands.

    Attributes:
        file: the file as it was named, `environment`, `command line` or `default`.
        line: 1-based; 0 where there are no lines.
        base: the folder that a relative path at this place is relative to.
        name: what the person would change there when that is not the dotted key: the environment variable.
    """

    file: str
    line: int
    base: Path
    name: str = ""


@dataclass(slots=True)
class Node:
    """One value: a scalar, a mapping or a list.

    Attributes:
        value: the value.
        place: where it stands; for a member of a mapping, where its key stands.
        text: a scalar as it was written, before YAML gave it a type.
    """

    value: Scalar | dict[str, Node] | list[Node]
    place: Place
    text: str = ""

    def child(self, step: str | int) -> Node | None:
        """The member or item of that name or index, or None."""
        if isinstance(self.value, dict):
            return self.value.get(str(step))
        if isinstance(self.value, list):
            try:
                index = int(step)
            except ValueError:
                return None
            return self.value[index] if 0 <= index < len(self.value) else None
        return None


def from_plain(value: object, place: Place) -> Node:
    """A tree of plain data, all of it at one place; for defaults, which stand nowhere."""
    if isinstance(value, dict):
        return Node({str(key): from_plain(item, place) for key, item in value.items()}, place)
    if isinstance(value, (list, tuple)):
        return Node([from_plain(item, place) for item in value], place)
    if value is None or isinstance(value, (str, int, float, bool)):
        return Node(value, place, str(value))
    raise TypeError(f"{value!r} is no plain data")

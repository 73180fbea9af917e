"""Reads tables, strings and vectors of tables from a FlatBuffer: the little that Istio's FlatNode needs.

Every place is checked against the bytes that are there (struct.error), and no more than a bounded number is read.
Not for: other types, or writing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_OFFSET: Final = struct.Struct("<I")
_BACK: Final = struct.Struct("<i")
_ENTRY: Final = struct.Struct("<H")
_MOST: Final = 256
"""Tables of a vector that are read."""
_VTABLE_HEAD: Final = 4
"""Bytes of a vtable before its first field: its own size and that of the table."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Attributes:
        data: the whole buffer.
        at: where it begins.
    """

    data: bytes
    at: int

    def text(self, field: int) -> str:
        """A string; empty where there is none."""
        start = self._follow(field)
        return "" if start is None else self._text_at(start)

    def texts(self, field: int) -> Iterator[str]:
        """The strings of a vector."""
        return (self._text_at(place) for place in self._places(field))

    def tables(self, field: int) -> Iterator[Table]:
        """The tables of a vector."""
        return (Table(self.data, place) for place in self._places(field))

    def _places(self, field: int) -> Iterator[int]:
        """Where what a vector names begins."""
        start = self._follow(field)
        if start is None:
            return
        (length,) = _OFFSET.unpack_from(self.data, start)
        for place in range(start + 4, start + 4 + 4 * min(length, _MOST), 4):
            yield place + int(_OFFSET.unpack_from(self.data, place)[0])

    def _text_at(self, start: int) -> str:
        (length,) = _OFFSET.unpack_from(self.data, start)
        content = self.data[start + 4 : start + 4 + length]
        if len(content) != length:
            raise struct.error("a string is longer than its buffer")
        return content.decode()

    def _follow(self, field: int) -> int | None:
        """Where a field's content begins."""
        vtable = self.at - _BACK.unpack_from(self.data, self.at)[0]
        if vtable < 0:
            raise struct.error("a vtable is before its buffer")
        entry = _VTABLE_HEAD + 2 * field
        if entry + 2 > _ENTRY.unpack_from(self.data, vtable)[0]:
            return None
        (offset,) = _ENTRY.unpack_from(self.data, vtable + entry)
        if not offset:
            return None
        place: int = self.at + offset
        return place + int(_OFFSET.unpack_from(self.data, place)[0])


def root(data: bytes) -> Table:
    """The buffer's table.

    Raises:
        struct.error: there is none.
    """
    return Table(data, _OFFSET.unpack_from(data, 0)[0])

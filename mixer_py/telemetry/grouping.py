"""Groups rows by the values of some of their columns, so that work in Python is done once for each distinct set.

Not for: what is done with a group (`label_sets.py`, `user_metrics.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mixer_py.instruments import Table

_LARGEST_CODE: Final = 2**62

Groups = npt.NDArray[np.int64]
"""For each row the number of its group."""
Numbers = npt.NDArray[np.float64]
Values = tuple[Any, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Alike:
    """What is known of rows beforehand: those of one group have the same values in some columns.

    Attributes:
        columns: their names.
        groups: for each row the number of its group.
        count: how many groups there are.
        keys: for each group a number that stands for the same values of these columns as long as `era` is the same
            object; -1 where it has none.
        era: of the keys.
    """

    columns: frozenset[str]
    groups: Groups
    count: int
    keys: Groups
    era: object


def encoded(column: pa.Array) -> pa.DictionaryArray:
    """The column as numbers of its distinct values, of which None is one like others."""
    return pc.dictionary_encode(column, null_encoding="encode")


def encoded_maps(column: pa.MapArray) -> pa.DictionaryArray:
    """The same for a column of maps, which Arrow does not do; so each row costs some Python."""
    numbers: dict[Values, int] = {}
    indices = [numbers.setdefault(tuple(pairs), len(numbers)) for pairs in column.to_pylist()]
    return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(list(numbers), column.type))


def codes(column: pa.DictionaryArray) -> Groups:
    """For each row the number of its value."""
    found: Groups = column.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def grouped(columns: Sequence[pa.DictionaryArray], length: int) -> tuple[Groups, list[Values]]:
    """For each row the number of its group, and for each group the values of the columns.

    Args:
        columns: as `encoded` gives them.
        length: how many rows there are.
    """
    indices = [codes(column) for column in columns]
    if len(columns) == 1:
        return indices[0], [(value,) for value in columns[0].dictionary.to_pylist()]
    first, groups = numbered(zip(indices, (len(c.dictionary) for c in columns), strict=True), length)
    values = [column.take(pa.array(first)).to_pylist() for column in columns]
    return groups, list(zip(*values, strict=True)) if values else [()] * len(first)


def numbered(parts: Iterable[tuple[Groups, int]], length: int) -> tuple[Groups, Groups]:
    """For each group its first row, and for each row the number of its group.

    Args:
        parts: what rows are told apart by: for each row a number, and how many numbers there may be.
        length: how many rows there are.
    """
    code: Groups = np.zeros(length, dtype=np.int64)
    size = 1
    for numbers, distinct in parts:
        if distinct > 1:
            if size > _LARGEST_CODE // distinct:  # the product no longer fits: number the groups so far
                code, size = _renumbered(code), length
            code = code * distinct + numbers
            size *= distinct
    if size == 1:
        return np.zeros(min(length, 1), dtype=np.int64), code
    groups = _renumbered(code)
    first: Groups = np.empty(int(groups.max(initial=-1)) + 1, dtype=np.int64)
    first[groups[::-1]] = np.arange(length)[::-1]  # the last one set is a group's first
    return first, groups


def _renumbered(code: Groups) -> Groups:
    """Distinct codes by the order in which they come; by a hash table, which is faster than numpy's sorting."""
    return pc.dictionary_encode(pa.array(code)).indices.to_numpy().astype(np.int64)  # type: ignore[no-any-return]


def add(table: Table, places: Groups, amounts: Numbers | float) -> None:
    """Adds each amount to the double at its place; several may have one place."""
    # The view ends with the call: as long as there is one, a table in private memory cannot grow.
    np.add.at(np.asarray(table.values), places, amounts)


def observe(table: Table, places: Groups, values: Numbers, bounds: tuple[float, ...]) -> None:
    """Counts each value into the histogram whose doubles begin at its place."""
    # side="left": a bucket includes its upper bound.
    add(table, places + np.searchsorted(bounds, values, side="left"), 1.0)
    add(table, places + (len(bounds) + 1), values)

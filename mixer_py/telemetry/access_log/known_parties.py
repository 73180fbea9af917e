"""Combinations of parties, remembered between slices with the columns that they make.

What a combination says is worked out once (`parties.py`); its texts become Arrow's once as well, so that a slice of
known combinations costs a look-up for each of them, and one call for all columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from mixer_py.telemetry.access_log.entries import Indices
from mixer_py.telemetry.access_log.parties import NAMES, Names, parties_of
from mixer_py.telemetry.access_log.streams import StreamIdentity

_MOST: Final = 10_000
"""Combinations remembered between slices."""
_LONGEST_NAMES: Final = 8_192
"""Characters and bytes of a combination that is remembered; a name may have a megabyte."""
_GROWTH: Final = 4
"""Columns are made anew when one part in so many of their rows is missing in them …"""
_MISSES: Final = 64
"""… or when so many slices had something that is missing: to make them anew takes as long as some slices."""

Row = tuple[str, ...]
Told = tuple[StreamIdentity, Names]
"""Who reports, and what an entry says of both sides."""


class KnownParties:
    """What is remembered."""

    def __init__(self) -> None:
        self._places: dict[Told, int] = {}
        self._rows: list[Row] = []
        self._columns = _Columns(())
        self._misses = 0

    def columns(self, told: Sequence[Told], groups: Indices) -> dict[str, pa.Array]:
        """The columns of `parties.NAMES`.

        Args:
            told: combinations, at least one.
            groups: for each entry the index of its combination.
        """
        if len(self._rows) + len(told) > _MOST:  # most are of streams that have ended by now
            self._places.clear()
            self._rows.clear()
            self._columns = _Columns(())
        places = [self._places.get(one, -1) for one in told]
        if min(places) >= 0 and max(places) < self._columns.length:
            return self._columns.spread(np.array(places)[groups])
        rows = [self._row(one, place) for one, place in zip(told, places, strict=True)]
        self._misses += 1
        missing = len(self._rows) - self._columns.length
        if missing and (missing * _GROWTH >= self._columns.length or self._misses >= _MISSES):
            self._columns, self._misses = _Columns(self._rows), 0
        return _Columns(rows).spread(groups)

    def _row(self, told: Told, place: int) -> Row:
        """`Parties.row` of one combination."""
        if place >= 0:
            return self._rows[place]
        identity, names = told
        row = parties_of(identity, names).row()
        if sum(map(len, names)) <= _LONGEST_NAMES and len(self._rows) < _MOST:  # else it is not worth the room
            self._places[told] = len(self._rows)
            self._rows.append(row)
        return row


class _Columns:
    """Rows as columns, of which those that are alike are kept once."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.length = len(rows)
        values = dict(zip(NAMES, zip(*rows, strict=True), strict=True)) if rows else {}
        varied = list(dict.fromkeys(column for column in values.values() if len(set(column)) > 1))
        self._places = {name: varied.index(column) for name, column in values.items() if column in varied}
        self._alone = {name: column[0] for name, column in values.items() if name not in self._places}
        self._table = pa.RecordBatch.from_arrays(
            [pa.array(column, pa.string()) for column in varied], [str(place) for place in range(len(varied))]
        )

    def spread(self, places: Indices) -> dict[str, pa.Array]:
        """The columns of entries that each have a row's values; a column of one value is not taken entry by entry."""
        taken = self._table.take(pa.array(places)).columns if self._places else []
        repeated = {value: pa.repeat(value, len(places)) for value in set(self._alone.values())}  # most are empty
        return {name: taken[place] for name, place in self._places.items()} | {
            name: repeated[value] for name, value in self._alone.items()
        }

"""Arrow's arrays of maps, in which keys and values of all rows stand one after another.

Not for: what is in them, or what of it is shown (`configured.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_MAP: Final = pa.map_(pa.string(), pa.string())
_NO_PAIRS: Final = pa.array([], pa.struct([_MAP.key_field, _MAP.item_field]))
_OFFSET_BYTES: Final = 4


def maps_of(lists: pa.ListArray) -> pa.MapArray:
    """Lists of pairs as maps, in their order."""
    pairs = lists.flatten()
    if not len(pairs):
        return empty_maps(len(lists))
    lengths = np.concatenate(([0], np.cumsum(pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False))))
    keys, values = (side.fill_null("") if side.null_count else side for side in (pairs.field(0), pairs.field(1)))
    return pa.MapArray.from_arrays(pa.array(lengths.astype(np.int32)), keys, values)


def empty_maps(length: int) -> pa.MapArray:
    """So many maps with nothing in them."""
    offsets = pa.py_buffer(bytes(_OFFSET_BYTES * (length + 1)))
    return pa.Array.from_buffers(_MAP, length, [None, offsets], children=[_NO_PAIRS])


def spread_maps(maps: Sequence[Mapping[str, str]], places: npt.NDArray[np.int64]) -> pa.MapArray:
    """For each row the map at its place."""
    sizes: npt.NDArray[np.int64] = np.fromiter(map(len, maps), np.int64, len(maps))
    if not sizes.any():
        return empty_maps(len(places))
    members = [member for found in maps for member in found.items()]
    ends = np.cumsum(sizes)
    lengths = sizes[places]
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    # The members of each row's map, which stand together, row after row.
    taken = np.repeat((ends - sizes)[places] - offsets[:-1], lengths) + np.arange(offsets[-1])
    keys, values = (pa.array([member[side] for member in members], pa.string()).take(taken) for side in (0, 1))
    return pa.MapArray.from_arrays(pa.array(offsets.astype(np.int32)), keys, values)

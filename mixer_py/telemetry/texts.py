"""Arrow's arrays of texts of which many columns have none: made and recognized without a look at each row.

Not for: what texts mean.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

_NO_BYTES: Final = pa.py_buffer(b"")
_OFFSET_BYTES: Final = 4


def blank(length: int) -> pa.Array:
    """So many empty texts; a quarter of what `pa.repeat` takes."""
    offsets = pa.py_buffer(bytes(_OFFSET_BYTES * (length + 1)))
    return pa.Array.from_buffers(pa.string(), length, [None, offsets, _NO_BYTES])


def is_blank(texts: pa.Array) -> bool:
    """Whether there is no text in any row, told by where the first begins and the last ends."""
    if not len(texts):
        return True
    offsets = memoryview(texts.buffers()[1]).cast("i")
    return bool(offsets[texts.offset] == offsets[texts.offset + len(texts)])

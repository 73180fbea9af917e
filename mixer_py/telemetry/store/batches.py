"""Rows on their way to the store: record batches as bodies of frames.

Apart from the frames, so that who only asks the store (the supervisor) needs no Arrow.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from mixer_py.errors import InvalidRequestError

_END: Final = 8
"""Bytes that end an Arrow stream."""


def encode_batch(batch: pa.RecordBatch) -> memoryview:
    """Rows as the body of a `write`: an uncompressed Arrow IPC stream, copied once into memory of its size."""
    size = batch.schema.serialize().size + pa.ipc.get_record_batch_size(batch) + _END
    body = pa.allocate_buffer(size)
    with pa.FixedSizeBufferWriter(body) as sink, pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return memoryview(body)


def decode_batch(body: bytes | memoryview) -> pa.RecordBatch:
    """The rows that `encode_batch` wrote; they share the body's memory.

    Raises:
        InvalidRequestError: it is not a stream of exactly one batch.
    """
    try:
        with pa.ipc.open_stream(body) as stream:
            batches = list(stream)
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidRequestError(f"the body of a write is no Arrow stream: {error}") from error
    if len(batches) != 1:
        raise InvalidRequestError(f"the body of a write holds {len(batches)} batches, not one")
    return batches[0]

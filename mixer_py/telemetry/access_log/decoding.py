"""Access-log messages to rows of `requests`: bytes in, columns out, no Python object for an entry.

ptars decodes through the projection; a malformed message is found by halves and costs its malformed entries alone.
Holds the GIL while it works, so whoever calls it hands over slices of at most a few thousand entries.
Not for: streams (`services/`), or what becomes of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from envoy.data.accesslog.v3 import accesslog_pb2

from mixer_py.instruments import Clock, SystemClock
from mixer_py.telemetry.access_log.derivation import Deriver, Slice
from mixer_py.telemetry.access_log.entries import Entries, Indices, numbers
from mixer_py.telemetry.access_log.projection import Projection
from mixer_py.telemetry.access_log.streams import ANONYMOUS, StreamIdentity, parse_identity
from mixer_py.telemetry.access_log.wire import salvage
from mixer_py.telemetry.columns import REQUESTS, Column, Derived, Field, Metadata, Party

__all__ = ["ANONYMOUS", "AccessLogDecoder", "DecodedLogs", "StreamIdentity", "parse_identity"]

_ENDS: Final = (accesslog_pb2.NotSet, accesslog_pb2.DownstreamEnd)
"""Values of access_log_type that end a request. Unset is what an Envoy before 1.27 sends."""
_CODE_MAXIMUM: Final = 2**16 - 1

Reader = Callable[[Slice], pa.Array]


@dataclass(frozen=True, slots=True)
class DecodedLogs:
    """What came of some messages; every entry is in exactly one of the four.

    Attributes:
        rows: one row a finished request, with exactly the columns of `requests`.
        malformed: entries that could not be read.
        unfinished: HTTP entries of requests that go on (start, periodic, tunnel, upstream): no rows.
        unsupported: TCP entries, which have no table yet.
    """

    rows: pa.RecordBatch
    malformed: int
    unfinished: int
    unsupported: int

    @property
    def received(self) -> int:
        """All entries."""
        return len(self.rows) + self.malformed + self.unfinished + self.unsupported


class AccessLogDecoder:
    """Decodes slices of messages; not to be used by two threads at once."""

    def __init__(self, clock: Clock | None = None) -> None:
        """Builds the projection.

        Args:
            clock: dates an entry that has no start.
        """
        self._clock = clock or SystemClock()
        self._projection = Projection()
        self._deriver = Deriver()
        self._readers = tuple(_reader(column) for column in REQUESTS.columns)

    def decode(self, messages: Sequence[tuple[bytes, StreamIdentity]]) -> DecodedLogs:
        """Rows from StreamAccessLogsMessages, each with the identity of its stream."""
        identities: dict[StreamIdentity, int] = {}
        streams: Indices = np.fromiter(
            (identities.setdefault(identity, len(identities)) for _, identity in messages), np.int64, len(messages)
        )
        malformed = 0
        batch = self._projection.decode(message for message, _ in messages)
        if batch is None:
            kept, malformed = salvage([message for message, _ in messages], self._decodes)
            streams = streams[np.fromiter((index for index, _ in kept), np.int64, len(kept))]
            batch = self._projection.decode(message for _, message in kept)
            if batch is None:  # each decodes by itself and all do not: nothing to point at, so none is kept
                malformed += len(kept)
                batch, streams = self._projection.empty, streams[:0]
        lists = batch.column(0).field(0)
        unsupported = len(batch.column(1).field(0).flatten())
        structs, streams = lists.flatten(), streams[numbers(lists.value_parent_indices())]
        received = len(structs)
        structs, streams = _finished(structs, streams)
        entries = Entries(structs, tuple(identities), streams, self._clock.wall_ns())
        part = self._deriver.slice(entries)
        rows = pa.RecordBatch.from_arrays([read(part) for read in self._readers], schema=REQUESTS.schema)
        return DecodedLogs(rows, malformed, received - len(structs), unsupported)

    def _decodes(self, messages: Sequence[bytes]) -> bool:
        return self._projection.decode(messages) is not None


def _finished(structs: pa.StructArray, streams: Indices) -> tuple[pa.StructArray, Indices]:
    """The entries that end a request."""
    common = structs.field("common_properties")
    kinds: npt.NDArray[Any] = numbers(common.field("access_log_type"))
    ends = ((kinds == _ENDS[0]) | (kinds == _ENDS[1])) & ~numbers(common.field("intermediate_log_entry"))
    if ends.all():
        return structs, streams
    return structs.filter(pa.array(ends)), streams[ends]


def _reader(column: Column) -> Reader:
    """How a column is read, decided once."""
    name, kind, source = column.name, column.kind, column.source
    match source:
        case Metadata():
            if kind.nullable:
                return lambda part: part.entries.metadata.count(source)
            return lambda part: part.entries.metadata.text(source)
        case Party():
            return lambda part: part.parties[name]
        case Derived():
            read: Reader = getattr(Slice, name)
        case Field(path):
            read = lambda part: part.entries.at(path)  # noqa: E731 (one line of a table)
        case _:
            raise TypeError(f"{name} cannot be read from a log entry")
    return (lambda part: _code(read(part))) if kind.arrow == pa.uint16() else read


def _code(values: pa.Array) -> pa.Array:
    """Status codes and ports in 16 bits; what does not fit, which no real one does, is the largest."""
    return pa.array(np.minimum(numbers(values), _CODE_MAXIMUM).astype(np.uint16))

"""Access-log messages to rows of `requests` and `connections`: bytes in, columns out, no Python object for an entry.

ptars decodes through the projection; a malformed message is found by halves and costs its malformed entries alone.
Holds the GIL while it works, so whoever calls it hands over slices of at most a few thousand entries, and lets others
have their turn between the steps of one.
Not for: streams (`services/`), or what becomes of the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from envoy.data.accesslog.v3 import accesslog_pb2

from mixer_py.instruments import Clock, SystemClock
from mixer_py.telemetry.access_log import configured
from mixer_py.telemetry.access_log.connections import ConnectionSlice
from mixer_py.telemetry.access_log.derivation import Slice
from mixer_py.telemetry.access_log.entries import Entries, Indices, Wanted, numbers
from mixer_py.telemetry.access_log.known_parties import KnownParties
from mixer_py.telemetry.access_log.projection import Projection
from mixer_py.telemetry.access_log.requests import RequestSlice
from mixer_py.telemetry.access_log.streams import ANONYMOUS, StreamIdentity, parse_identity
from mixer_py.telemetry.access_log.tracking import ConnectionTracker
from mixer_py.telemetry.access_log.wire import salvage
from mixer_py.telemetry.column import (
    Column,
    Derived,
    Field,
    Metadata,
    Named,
    NamedBySetting,
    NamedClaims,
    NamedHeader,
    NamedParameters,
    Party,
    Span,
    TableOfColumns,
    Tag,
    Token,
)
from mixer_py.telemetry.columns import CONNECTIONS, REQUESTS
from mixer_py.telemetry.grouping import Alike
from mixer_py.telemetry.privacy_settings import Privacy
from mixer_py.telemetry.row_masking import RowMask, Step

__all__ = ["ANONYMOUS", "AccessLogDecoder", "DecodedLogs", "StreamIdentity", "parse_identity"]

_ENDS: Final = (accesslog_pb2.NotSet, accesslog_pb2.DownstreamEnd)
"""Values of access_log_type that end a request. Unset is what an Envoy before 1.27 sends."""
_CODE_MAXIMUM: Final = 2**16 - 1
_KINDS: Final = accesslog_pb2.AccessLogType.DESCRIPTOR.values_by_number

_STEP_SECONDS: Final = 0.0005
"""A step ends with the column at which it has taken so long; some columns take as long alone, or a little longer."""

_READ_BYTES: Final = 1 << 20
"""Messages of so many bytes are read in one step, which takes 5 to 8 ms; to join them takes a tenth of that."""

Messages = Sequence[tuple[bytes, StreamIdentity]]
"""StreamAccessLogsMessages, each with the identity of its stream."""
Steps = Generator[None, None, "DecodedLogs"]
"""Work that stops between its steps, and gives its outcome at its end."""
Reader = Callable[[Any], pa.Array]
"""Reads a column from a slice of its table's kind."""


@dataclass(frozen=True, slots=True)
class DecodedLogs:
    """What came of some messages; every entry is in exactly one place.

    Attributes:
        requests: one row a finished request, with exactly the columns of `requests`.
        alike: which of them have the same values in columns about both sides; None when there are none.
        for_metrics: for each of them what metrics read and rows need not show, masked as rows are, in columns of the
            same names; None when there is nothing of the kind. Nobody is to keep it.
        connections: one row a TCP entry, with exactly the columns of `connections`.
        opened: for each row of connections whether the connection counts as opened by it.
        resumed: connections first heard of in the middle (`tracking.py`).
        malformed_requests: HTTP entries that could not be read, and messages that are nothing.
        malformed_connections: TCP entries that could not be read.
        unfinished: HTTP entries of requests that go on, which become no rows, by Envoy's access_log_type.
    """

    requests: pa.RecordBatch
    alike: Alike | None
    for_metrics: pa.RecordBatch | None
    connections: pa.RecordBatch
    opened: npt.NDArray[np.bool_]
    resumed: int
    malformed_requests: int
    malformed_connections: int
    unfinished: Mapping[str, int]

    @property
    def malformed(self) -> int:
        """Entries of both kinds that could not be read."""
        return self.malformed_requests + self.malformed_connections

    @property
    def received(self) -> int:
        """All entries."""
        return len(self.requests) + len(self.connections) + self.malformed + sum(self.unfinished.values())


class _Table:
    """How one table's rows are made of entries, by the settings of one snapshot."""

    def __init__(
        self, table: TableOfColumns, slices: type[Slice], privacy: Privacy, mask: RowMask, clock: Clock
    ) -> None:
        self._monotonic = clock.monotonic
        self._schema = table.schema
        self._readers = tuple(_masked(_reader(column, slices, privacy), mask.step(column)) for column in table.columns)
        self.wanted = Wanted(table)
        self.empty = pa.RecordBatch.from_pylist([], table.schema)

    def rows(self, part: Slice) -> Generator[None, None, pa.RecordBatch]:
        """One row an entry, in steps."""
        columns: list[pa.Array] = []
        begun = self._monotonic()
        for read in self._readers:
            columns.append(read(part))
            if self._monotonic() - begun > _STEP_SECONDS:
                yield
                begun = self._monotonic()
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)


class _ForMetrics:
    """How what only metrics read is read of requests, by the settings of one snapshot."""

    def __init__(self, privacy: Privacy, mask: RowMask) -> None:
        columns = [column for column in REQUESTS.columns if column.name in privacy.for_metrics]
        self._schema = pa.schema([REQUESTS.schema.field(column.name) for column in columns])
        self._readers = [
            _masked(configured.reader(column.source, privacy.for_metrics[column.name]), mask.step(column))
            for column in columns
            if isinstance(column.source, NamedBySetting)
        ]

    def read(self, part: Slice) -> pa.RecordBatch | None:
        """One row an entry; None when nothing is wanted."""
        if not self._readers:
            return None
        return pa.RecordBatch.from_arrays([read(part) for read in self._readers], schema=self._schema)


class _Part(NamedTuple):
    """What was read of some messages.

    Attributes:
        http: entries of requests, as projected.
        http_streams: for each of them the index of its stream's identity.
        tcp: entries of connections, as projected.
        tcp_streams: idem.
        malformed_http: as in DecodedLogs.
        malformed_tcp: idem.
    """

    http: pa.StructArray
    http_streams: Indices
    tcp: pa.StructArray
    tcp_streams: Indices
    malformed_http: int
    malformed_tcp: int


class _Requests(NamedTuple):
    """What came of entries of requests, as in DecodedLogs."""

    rows: pa.RecordBatch
    alike: Alike | None = None
    for_metrics: pa.RecordBatch | None = None
    unfinished: Mapping[str, int] = {}


class AccessLogDecoder:
    """Decodes slices of messages, and remembers open connections; not to be used by two threads at once.

    What it gives is masked: nothing that is not to be shown leaves it.
    """

    def __init__(self, clock: Clock | None = None, privacy: Privacy | None = None, mask: RowMask | None = None) -> None:
        """Builds the projection.

        Args:
            clock: dates an entry that has no start.
            privacy: what rows may show.
            mask: made of `privacy.mask`; None to make it here.

        Raises:
            OSError: the file of the key that masks hash with cannot be read, here.
        """
        self._clock = clock or SystemClock()
        self._projection = Projection()
        self._known = KnownParties()
        self._tracker = ConnectionTracker(self._clock.wall_ns())
        privacy = privacy or Privacy()
        self.activate(privacy, RowMask(privacy.mask) if mask is None else mask)

    def activate(self, privacy: Privacy, mask: RowMask) -> None:
        """Shows from the next slice on what other settings say."""
        self._known.end_era()  # what is masked in another way is counted in other series
        self._requests = _Table(REQUESTS, RequestSlice, privacy, mask, self._clock)
        self._connections = _Table(CONNECTIONS, ConnectionSlice, privacy, mask, self._clock)
        self._for_metrics = _ForMetrics(privacy, mask)

    def decode(self, messages: Messages) -> DecodedLogs:
        """Rows from StreamAccessLogsMessages, each with the identity of its stream."""
        steps = self.steps(messages)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                decoded: DecodedLogs = end.value
                return decoded

    def steps(self, messages: Messages) -> Steps:
        """The same, a step at a time; to be taken to its end before anything else is asked of the decoder."""
        identities: dict[StreamIdentity, int] = {}
        parts: list[_Part] = []
        for some in _in_order(messages, _READ_BYTES):
            parts.append(self._read(some, identities))
            yield
        part = _joined(parts) if parts else self._read((), identities)
        who = tuple(identities)
        requests = yield from self._read_requests(part.http, who, part.http_streams)
        connections, opened, resumed = yield from self._read_connections(part.tcp, who, part.tcp_streams)
        return DecodedLogs(
            requests.rows, requests.alike, requests.for_metrics, connections, opened, resumed,
            part.malformed_http, part.malformed_tcp, requests.unfinished,
        )  # fmt: skip

    def _read(self, messages: Messages, identities: dict[StreamIdentity, int]) -> _Part:
        """The entries of messages; gives each identity that is new its index."""
        streams: Indices = np.fromiter(
            (identities.setdefault(identity, len(identities)) for _, identity in messages), np.int64, len(messages)
        )
        malformed_http = malformed_tcp = 0
        projected = self._projection.decode(message for message, _ in messages)
        if projected is None:
            salvaged = salvage([message for message, _ in messages], self._decodes)
            kept = salvaged.kept
            malformed_http, malformed_tcp = salvaged.malformed_http, salvaged.malformed_tcp
            streams = streams[np.fromiter((index for index, _ in kept), np.int64, len(kept))]
            projected = self._projection.decode(message for _, message in kept)
            if projected is None:  # each decodes by itself and all do not: nothing to point at, so none is kept
                malformed_http += len(kept)
                projected, streams = self._projection.empty, streams[:0]
        return _Part(
            projected.http, streams[projected.http_messages], projected.tcp, streams[projected.tcp_messages],
            malformed_http, malformed_tcp,
        )  # fmt: skip

    def _read_requests(
        self, structs: pa.StructArray, identities: Sequence[StreamIdentity], streams: Indices
    ) -> Generator[None, None, _Requests]:
        if not len(structs):
            return _Requests(self._requests.empty)
        structs, streams, unfinished = _finished(structs, streams)
        if not len(structs):
            return _Requests(self._requests.empty, unfinished=unfinished)
        entries = Entries(structs, identities, streams, self._clock.wall_ns(), self._requests.wanted)
        part = RequestSlice(entries, self._known)
        rows = yield from self._requests.rows(part)
        return _Requests(rows, part.alike, self._for_metrics.read(part), unfinished)

    def _read_connections(
        self, structs: pa.StructArray, identities: Sequence[StreamIdentity], streams: Indices
    ) -> Generator[None, None, tuple[pa.RecordBatch, npt.NDArray[np.bool_], int]]:
        if not len(structs):
            return self._connections.empty, np.zeros(0, dtype=np.bool_), 0
        entries = Entries(structs, identities, streams, self._clock.wall_ns(), self._connections.wanted)
        part = ConnectionSlice(entries, self._known, self._tracker)
        rows = yield from self._connections.rows(part)
        return rows, np.array(part.steps.opened, dtype=np.bool_), part.steps.resumed

    def _decodes(self, messages: Sequence[bytes]) -> bool:
        return self._projection.decode(messages) is not None


def _in_order(messages: Messages, most: int) -> Iterator[Messages]:
    """The messages, some at a time: up to the one with which they have so many bytes."""
    begin = size = 0
    for end, (message, _) in enumerate(messages, 1):
        size += len(message)
        if size >= most or end == len(messages):
            yield messages[begin:end]
            begin, size = end, 0


def _joined(parts: Sequence[_Part]) -> _Part:
    """Parts, at least one, as one."""
    if len(parts) == 1:
        return parts[0]
    http, http_streams, tcp, tcp_streams, malformed_http, malformed_tcp = zip(*parts, strict=True)
    return _Part(
        pa.concat_arrays(http), np.concatenate(http_streams), pa.concat_arrays(tcp), np.concatenate(tcp_streams),
        sum(malformed_http), sum(malformed_tcp),
    )  # fmt: skip


def _finished(structs: pa.StructArray, streams: Indices) -> tuple[pa.StructArray, Indices, Mapping[str, int]]:
    """The entries that end a request, and how many there are of other kinds."""
    common = structs.field("common_properties")
    kinds: npt.NDArray[Any] = numbers(common.field("access_log_type"))
    goes_on: npt.NDArray[Any] = numbers(common.field("intermediate_log_entry"))
    ends = ((kinds == _ENDS[0]) | (kinds == _ENDS[1])) & ~goes_on
    if ends.all():
        return structs, streams, {}
    unfinished = Counter(
        _KINDS[kind].name if kind in _KINDS and kind not in _ENDS else "other" for kind in kinds[~ends].tolist()
    )
    return structs.filter(pa.array(ends)), streams[ends], unfinished


def _masked(read: Reader, step: Step | None) -> Reader:
    return read if step is None else lambda part: step(read(part))


def _reader(column: Column, slices: type[Slice], privacy: Privacy) -> Reader:
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
            read: Reader = getattr(slices, name)
        case Field(path):
            read = lambda part: part.entries.at(path)  # noqa: E731 (one line of a table)
        case Tag(tag):
            return lambda part: part.entries.custom_tags.get(tag)
        case Named() | NamedHeader() | NamedParameters() | NamedClaims():
            read = configured.reader(source, privacy.named(source.setting))
        case Token(claim):
            return lambda part: part.entries.metadata.claim(claim)
        case Span(path):
            read = lambda part: part.span(path)  # noqa: E731 (as above)
        case _:
            raise TypeError(f"{name} cannot be read from a log entry")
    return (lambda part: _code(read(part))) if kind.arrow == pa.uint16() else read


def _code(values: pa.Array) -> pa.Array:
    """Status codes and ports in 16 bits; what does not fit, which no real one does, is the largest."""
    return pa.array(np.minimum(numbers(values), _CODE_MAXIMUM).astype(np.uint16))

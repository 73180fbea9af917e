"""Facts about both sides, remembered between slices with the columns that they make.

Who reports, the source, the destination and the service each follow from a part of what an entry says, so each is
remembered by itself: of ten thousand services that sixty-four proxies call there are ten thousand and sixty-four facts,
and not the product. What is said is worked out once (`parties.py`); its texts become Arrow's once as well, so that a
slice of known facts costs a look-up for each of them, and one call for all of their columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from mixer_py.telemetry.access_log.entries import Indices, Mask, numbers, objects
from mixer_py.telemetry.access_log.maps import spread_maps
from mixer_py.telemetry.access_log.parties import (
    DESTINATION_NAMES,
    DIRECTIONS,
    OF_INSTANCES,
    REPORTER_NAMES,
    SERVICE_NAMES,
    SOURCE_NAMES,
    Row,
    ToldDestination,
    ToldReporter,
    ToldService,
    ToldSource,
    direction_of,
    reporter_of,
)
from mixer_py.telemetry.access_log.streams import DESTINATION, SOURCE, StreamIdentity
from mixer_py.telemetry.access_log.workloads import Labels, Workload
from mixer_py.telemetry.grouping import numbered
from mixer_py.telemetry.texts import blank

_MOST: Final = 20_000
"""Facts of a kind that are remembered between slices: more than a metric has label sets."""
_LONGEST: Final = 8_192
"""Characters and bytes of what tells a fact that is remembered; a name may have a megabyte."""
_GROWTH: Final = 4
"""Columns are made anew when one part in so many of their rows is missing in them …"""
_MISSES: Final = 64
"""… or when so many slices had something that is missing: to make them anew takes as long as some slices."""
_SHORT: Final = 256
"""Characters of a text that is kept as often as a slice has rows."""

_MAP: Final = pa.map_(pa.string(), pa.string())
Told = TypeVar("Told", ToldReporter, ToldSource, ToldDestination, ToldService)
"""What a fact follows from."""


class Said:
    """What each entry says of one thing.

    Attributes:
        codes: for each entry the number of its value.
        values: the distinct ones; where nobody says anything one that says so.
    """

    def __init__(self, array: pa.Array | None, length: int, unsaid: str | bytes = "") -> None:
        """Takes the values of so many entries; None where none says anything."""
        self.codes: Indices = np.zeros(length, np.int64)
        self.values: list[Any] = [unsaid]
        if array is not None:
            encoded = array.dictionary_encode()
            self.codes, self.values = numbers(encoded.indices).astype(np.int64), objects(encoded.dictionary)

    @property
    def everywhere(self) -> tuple[Indices, int]:
        """The numbers, and how many there are."""
        return self.codes, len(self.values)

    def where(self, meant: Mask) -> tuple[Indices, int]:
        """The numbers of the entries that are meant, 0 for others, and how many numbers there may be."""
        return np.where(meant, self.codes, 0), len(self.values)

    def at(self, places: Indices) -> list[Any]:
        """The values at some places; equal ones are one object, so that their hash is worked out once."""
        return [self.values[code] for code in self.codes[places].tolist()]


class SaidNames(NamedTuple):
    """What entries say of both sides, as `parties.Names` has it."""

    cluster: Said
    peer: Said
    own: Said
    upstream: Said
    downstream_peer: Said
    upstream_peer: Said


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What is known of some entries.

    Attributes:
        columns: those of `parties.NAMES`.
        groups: for each entry the number of its group, in which all columns but `parties.OF_INSTANCES` are alike.
        count: how many groups there are.
        keys: for each group a number that stands for its values as long as `era` is the same object; -1 where some are
            not remembered.
        era: of the keys.
    """

    columns: dict[str, pa.Array]
    groups: Indices
    count: int
    keys: Indices
    era: object


class KnownParties:
    """What is remembered."""

    def __init__(self) -> None:
        self.reporters = Kept[ToldReporter](REPORTER_NAMES)
        self.sources = Kept[ToldSource](SOURCE_NAMES)
        self.destinations = Kept[ToldDestination](DESTINATION_NAMES)
        self.services = Kept[ToldService](SERVICE_NAMES)
        self.end_era()

    def end_era(self) -> None:
        """From now on keys may stand for other values: somebody changes what becomes of them (`Facts.keys`)."""
        self._era = object()

    def facts(self, identities: Sequence[StreamIdentity], streams: Indices, said: SaidNames) -> Facts:
        """What is known of entries.

        Args:
            identities: of their streams.
            streams: for each entry, of which there is at least one, the index of its stream's identity.
            said: what they say.
        """
        length, cluster = len(streams), said.cluster
        directions = np.array([direction_of(value) for value in cluster.values])[cluster.codes]
        first, reporting = numbered([(streams, len(identities)), (directions, DIRECTIONS)], length)
        reporters = [
            ToldReporter(reporter_of(identity, name), identity.node_id, identity.local.proxy_version)
            for identity, name in zip((identities[place] for place in streams[first]), cluster.at(first), strict=True)
        ]
        sides = np.array([one.reporter for one in reporters])[reporting]
        node = _Node(identities, streams, sides == SOURCE, sides == DESTINATION)
        groups = (
            self.reporters.of(reporters, reporting),
            self.sources.of(*_sources(node, said)),
            self.destinations.of(*_destinations(node, said)),
            self.services.of([ToldService(name) for name in cluster.values], cluster.codes),
        )
        if any(one.renumbered for one in groups):
            self.end_era()
        first, alike = numbered([(one.kinds, one.most) for one in groups], length)
        columns = {name: column for one in groups for name, column in one.columns.items()}
        return Facts(columns, alike, len(first), _keys(groups, first), self._era)


class _Node(NamedTuple):
    """On which side of each entry the node of its stream stands."""

    identities: Sequence[StreamIdentity]
    streams: Indices
    at_source: Mask
    at_destination: Mask

    def where(self, meant: Mask) -> tuple[Indices, int]:
        """A number for each stream, 0 for entries that are not meant; and how many numbers there may be."""
        return np.where(meant, self.streams + 1, 0), len(self.identities) + 1

    def workloads(self, meant: Mask, places: Indices) -> list[Workload | None]:
        """The node's workload at some places; None for entries that are not meant."""
        streams = np.where(meant, self.streams, -1)[places].tolist()
        return [self.identities[stream].local if stream >= 0 else None for stream in streams]


def _sources(node: _Node, said: SaidNames) -> tuple[list[ToldSource], Indices]:
    """What tells the sources of entries, and for each entry the index of what tells its own."""
    told = said.downstream_peer.where(~node.at_source)
    first, groups = numbered([node.where(node.at_source), said.peer.everywhere, told], len(node.streams))
    sources = [
        ToldSource(local, peer, b"" if local is not None else downstream)
        for local, peer, downstream in zip(
            node.workloads(node.at_source, first), said.peer.at(first), said.downstream_peer.at(first), strict=True
        )
    ]
    return sources, groups


def _destinations(node: _Node, said: SaidNames) -> tuple[list[ToldDestination], Indices]:
    """The same of destinations."""
    here, there = node.at_destination, ~node.at_destination
    parts = [node.where(here), said.own.where(here), said.upstream.where(there), said.upstream_peer.where(there)]
    first, groups = numbered(parts, len(node.streams))
    told = (said.own.at(first), said.upstream.at(first), said.upstream_peer.at(first))
    destinations = [
        ToldDestination(None, "", upstream, peer) if local is None else ToldDestination(local, own, "", b"")
        for local, own, upstream, peer in zip(node.workloads(here, first), *told, strict=True)
    ]
    return destinations, groups


class _Group(NamedTuple):
    """Facts of one kind about some entries.

    Attributes:
        columns: by name.
        kinds: for each entry a number; entries with one number are alike in all but `parties.OF_INSTANCES`.
        most: how many numbers there may be.
        lasting: how many of them are remembered, the first ones.
        renumbered: whether they began anew.
    """

    columns: dict[str, pa.Array]
    kinds: Indices
    most: int
    lasting: int
    renumbered: bool


def _keys(groups: Sequence[_Group], first: Indices) -> Indices:
    """One number of all kinds at some places; -1 where one of them is not remembered."""
    keys, lasting = np.zeros(len(first), np.int64), np.ones(len(first), np.bool_)
    for one in groups:
        kinds = one.kinds[first]
        keys = keys * _MOST + kinds  # four of them fit into 64 bits
        lasting &= kinds < one.lasting
    return np.where(lasting, keys, -1)


class Kept(Generic[Told]):
    """Facts of one kind."""

    def __init__(self, names: Sequence[str]) -> None:
        """Remembers nothing yet.

        Args:
            names: of the columns that a fact makes.
        """
        self._names = names
        self._telling = [place for place, name in enumerate(names) if name not in OF_INSTANCES]
        self._forget()

    def _forget(self) -> None:
        self._places: dict[Told, int] = {}
        self._rows: list[Row] = []
        self._kinds: list[int] = []
        self._numbers: dict[Row, int] = {}
        """By what tells a kind."""
        self._columns = _Columns(self._names, ())
        self._misses = 0

    def of(self, told: Sequence[Told], groups: Indices) -> _Group:
        """The facts about entries.

        Args:
            told: what tells them, at least one; streams of one node tell the same.
            groups: for each entry the index of what tells its own.
        """
        full = len(self._rows) + len(told) > _MOST
        if full:  # most are of workloads that have gone by now
            self._forget()
        places = [self._places.get(one, -1) for one in told]
        if min(places) >= 0 and max(places) < self._columns.length:
            kinds = np.array([self._kinds[place] for place in places])[groups]
            known = len(self._numbers)
            return _Group(self._columns.spread(np.array(places)[groups]), kinds, known, known, full)
        facts = [self._fact(one) for one in told]
        self._misses += 1
        missing = len(self._rows) - self._columns.length
        if missing and (missing * _GROWTH >= self._columns.length or self._misses >= _MISSES):
            self._columns, self._misses = _Columns(self._names, self._rows), 0
        most = len(self._numbers)
        kinds = np.array([most + index if kind < 0 else kind for index, (_, kind) in enumerate(facts)])[groups]
        columns = _Columns(self._names, [row for row, _ in facts]).spread(groups)
        return _Group(columns, kinds, most + len(facts), most, full)

    def _fact(self, told: Told) -> tuple[Row, int]:
        """The row of one fact, and the number of its kind; -1 where that is not remembered."""
        place = self._places.get(told)
        if place is not None:
            return self._rows[place], self._kinds[place]
        row = told.row()
        if _size(told) > _LONGEST or len(self._rows) >= _MOST:  # it is not worth the room
            return row, -1
        self._places[told] = len(self._rows)
        self._rows.append(row)
        self._kinds.append(self._numbers.setdefault(tuple(row[place] for place in self._telling), len(self._numbers)))
        return row, self._kinds[-1]


def _size(told: Told) -> int:
    """Characters and bytes."""
    return sum(_size_of(one) if isinstance(one, Workload) else len(one or "") for one in told)


def _size_of(workload: Workload) -> int:
    texts = sum(len(value) for value in astuple(workload) if isinstance(value, str))
    return texts + sum(len(label) + len(value) for label, value in workload.labels)


class _Columns:
    """Rows as columns, of which those that are alike are kept once."""

    def __init__(self, names: Sequence[str], rows: Sequence[Row]) -> None:
        self.length = len(rows)
        values = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {}
        varied = list(dict.fromkeys(column for column in values.values() if len(set(column)) > 1))
        self._places = {name: varied.index(column) for name, column in values.items() if column in varied}
        self._alone = {name: column[0] for name, column in values.items() if name not in self._places}
        self._repeated: dict[str | Labels, pa.Array] = {}
        self._table = pa.RecordBatch.from_arrays(
            [pa.array(column, _MAP if isinstance(column[0], tuple) else pa.string()) for column in varied],
            [str(place) for place in range(len(varied))],
        )

    def spread(self, places: Indices) -> dict[str, pa.Array]:
        """The columns of entries that each have a row's values; a column of one value is not taken entry by entry."""
        taken = self._table.take(pa.array(places)).columns if self._places else []
        repeated = {value: self._repeat(value, len(places)) for value in set(self._alone.values())}  # most are empty
        return {name: taken[place] for name, place in self._places.items()} | {
            name: repeated[value] for name, value in self._alone.items()
        }

    def _repeat(self, value: str | Labels, length: int) -> pa.Array:
        """So many times the value; a text is the beginning of one array for slices of any length."""
        if isinstance(value, tuple):
            return spread_maps([dict(value)], np.zeros(length, np.int64))
        kept = self._repeated.get(value)
        if kept is None or len(kept) < length:
            kept = pa.repeat(value, length) if value else blank(length)
            if len(value) <= _SHORT:
                self._repeated[value] = kept
        return kept.slice(0, length)

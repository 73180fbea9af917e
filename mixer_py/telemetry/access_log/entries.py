"""A slice of decoded log entries as columns: leaves, lists of pairs and metadata, each aligned with the entries.

An absent message's leaves read as their defaults, as in protobuf. Of a map's repeated key the last value counts.
Not for: meaning (`derivation.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mixer_py.attributes.tokens import ISTIO_AUTHN, JWT_AUTHN
from mixer_py.telemetry.access_log.logged_tokens import Tokens
from mixer_py.telemetry.access_log.maps import empty_maps
from mixer_py.telemetry.access_log.projection import METADATA
from mixer_py.telemetry.access_log.streams import StreamIdentity
from mixer_py.telemetry.access_log.workloads import SEPARATOR
from mixer_py.telemetry.column import Derived, Metadata, TableOfColumns, Tag
from mixer_py.telemetry.texts import blank, is_blank, said

Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_REQUEST_HEADERS: Final = pa.array(["content-type", "x-envoy-auth-failure-mode-allowed"])
"""Logged request headers that some column reads."""
_GRPC_HEADERS: Final = pa.array(["grpc-message", "grpc-status"])
"""The same of response headers and of trailers."""
DOWNSTREAM_PEER: Final = (
    "downstream_peer", "downstream_peer_obj", "wasm.downstream_peer", "envoy.wasm.metadata_exchange.downstream",
    "wasm.envoy.wasm.metadata_exchange.downstream",
)  # fmt: skip
"""Objects in which Istio has kept metadata of the downstream peer, the latest first (mixer.md 2.2)."""
UPSTREAM_PEER: Final = tuple(name.replace("downstream", "upstream") for name in DOWNSTREAM_PEER)
PRINCIPAL_TAG: Final = "destination.principal"
"""A custom tag with the name in the upstream's certificate, which an entry does not have otherwise."""
CLUSTER_TAG: Final = "upstream.cluster"
"""A custom tag with the cluster of the route, which an entry does not have otherwise where no upstream was asked."""
GRPC_STATS: Final = "envoy.filters.http.grpc_stats"
_OBJECTS: Final = (*DOWNSTREAM_PEER, *UPSTREAM_PEER, GRPC_STATS)
_OBJECT_SET: Final = pa.array(_OBJECTS)
_TOKENS: Final = (JWT_AUTHN, ISTIO_AUTHN)
"""The namespaces that hold tokens; they are the first of those that are read."""
EMPTY: Final = pa.array([""])


def numbers(array: pa.Array) -> npt.NDArray[Any]:
    """The array's values as numpy sees them, without a copy where that is possible; nulls are not expected."""
    values: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return values


def objects(array: pa.Array) -> list[Any]:
    """The array's values as Python's; by way of numpy, which is ten times as fast as Arrow's own."""
    values: list[Any] = array.to_numpy(zero_copy_only=False).tolist()
    return values


def _codes(keys: pa.Array, wanted: pa.Array) -> Indices:
    """For each key its place among the wanted ones, -1 for any other."""
    found = pc.index_in(keys, value_set=wanted)
    if not found.null_count:
        return numbers(found).astype(np.int64)
    # Not by `fill_null`, which takes half as long as the look-up again.
    places = np.frombuffer(found.buffers()[1], np.int32, len(found), found.offset * 4)
    return np.where(numbers(found.is_valid()), places, np.int64(-1))


class Keyed:
    """Values of a few wanted keys, one column a key, all placed by one call.

    A column's array is a slice of what all columns share.
    """

    def __init__(self, codes: Indices, rows: Indices, keys: int, length: int) -> None:
        """Takes for each value the wanted key it belongs to, or -1, and its row; of a repeated key the last counts."""
        positions = np.flatnonzero(codes >= 0)
        self._length = length
        self._chosen = np.full(keys * length, -1, dtype=np.int64)
        self._chosen[codes[positions] * length + rows[positions]] = positions

    def texts(self, values: pa.Array) -> pa.Array:
        """All columns one after another; empty where a row has no such key, or its value is no text."""
        chosen = self._chosen
        if values.null_count:
            chosen = np.where(numbers(values.is_valid())[chosen], chosen, -1)
        return pa.concat_arrays([values, EMPTY]).take(pa.array(np.where(chosen < 0, len(values), chosen)))

    def positions(self, key: int) -> Indices:
        """For each row the position of its value, -1 where it has none."""
        return self._chosen[key * self._length : (key + 1) * self._length]


class Pairs:
    """A map<string, string> of each entry, such as its logged request headers."""

    def __init__(self, lists: pa.ListArray, names: pa.Array) -> None:
        """Takes the values of some names."""
        self._length = len(lists)
        self._names = names.to_pylist()
        pairs = lists.flatten()
        self._texts: pa.Array | None = None
        codes = _codes(pairs.field(0), names) if len(pairs) else np.zeros(0, dtype=np.int64)
        if (codes >= 0).any():
            keyed = Keyed(codes, numbers(lists.value_parent_indices()), len(names), len(lists))
            self._texts = keyed.texts(pairs.field(1))

    def get(self, name: str) -> pa.Array:
        """The values of one of the names; empty where an entry does not have it."""
        found = self.find(name)
        return blank(self._length) if found is None else found

    def find(self, name: str) -> pa.Array | None:
        """The same; None where no entry has any of the names."""
        if self._texts is None:
            return None
        return self._texts.slice(self._names.index(name) * self._length, self._length)


class Wanted:
    """The scalars in dynamic metadata, and the custom tags, that some column of a table reads."""

    def __init__(self, table: TableOfColumns) -> None:
        tags = [column.source.name for column in table.columns if isinstance(column.source, Tag)]
        self.tags = pa.array(dict.fromkeys((PRINCIPAL_TAG, CLUSTER_TAG, *tags)), pa.string())
        sources = list(metadata_of(table))
        self._sources = tuple(dict.fromkeys(sources))
        self._namespaces = tuple(dict.fromkeys((*_TOKENS, *(source.namespace for source in sources))))
        self._keys = tuple(dict.fromkeys(source.key for source in sources))
        self.namespaces, self.keys = pa.array(self._namespaces, pa.string()), pa.array(self._keys, pa.string())
        self._places: dict[bytes, tuple[Mapping[Metadata, int], Indices]] = {}

    def places(self, present: Mask) -> tuple[Mapping[Metadata, int], Indices]:
        """The place of each source in some of the namespaces: of others nothing has to be found.

        Args:
            present: for each namespace whether there are entries that have it.

        Returns:
            The places, and the same by namespace and key, with -1 for what no column reads.
        """
        found = self._places.get(present.tobytes())
        if found is None:
            there = {name for name, is_there in zip(self._namespaces, present.tolist(), strict=True) if is_there}
            sources = [source for source in self._sources if source.namespace in there]
            places = {source: place for place, source in enumerate(sources)}
            place_of = np.full((len(self._namespaces), len(self._keys)), -1, dtype=np.int64)
            for source, place in places.items():
                place_of[self._namespaces.index(source.namespace), self._keys.index(source.key)] = place
            found = self._places[present.tobytes()] = places, place_of
        return found


def metadata_of(table: TableOfColumns) -> Iterator[Metadata]:
    """Each place in dynamic metadata that a column of the table reads."""
    for column in table.columns:
        match column.source:
            case Metadata():
                yield column.source
            case Derived(metadata=more):
                yield from more


class FilterMetadata:
    """The scalars that filters left in each entry's dynamic metadata."""

    def __init__(self, lists: pa.ListArray, wanted: Wanted) -> None:
        self._length = len(lists)
        namespace_count = len(wanted.namespaces)
        namespaces = lists.flatten()
        rows: Indices = numbers(lists.value_parent_indices())
        codes = _codes(namespaces.field(0), wanted.namespaces)
        present = np.bincount(codes + 1, minlength=namespace_count + 1)[1:] > 0
        self._places, place_of = wanted.places(present)
        structs = namespaces.field(1).field(0)
        fields = structs.flatten()
        owners: Indices = numbers(structs.value_parent_indices())
        # Of a repeated namespace the last struct replaces the others as a whole.
        slots = np.where(codes < 0, 0, rows * namespace_count + codes + 1)
        last = np.zeros(self._length * namespace_count + 1, dtype=np.int64)
        last[slots] = np.arange(len(slots))
        counted = (codes >= 0) & (last[slots] == np.arange(len(slots)))
        keys = _codes(fields.field(0), wanted.keys)
        chosen = np.where(counted[owners] & (keys >= 0), place_of[codes[owners], keys], -1)
        self._keyed = Keyed(chosen, rows[owners], len(self._places), self._length)
        values = fields.field(1)
        self._numbers, self._texts = values.field(0), self._keyed.texts(values.field(1))
        of_tokens = None
        if present[: len(_TOKENS)].any():
            of_tokens = (codes[owners] >= 0) & (codes[owners] < len(_TOKENS)) & counted[owners]
        self._tokens = None if of_tokens is None else Tokens(of_tokens, rows[owners], values.field(2), self._length)

    def text(self, source: Metadata) -> pa.Array:
        """Strings; empty where there is none."""
        found = self.find(source)
        return blank(self._length) if found is None else found

    def find(self, source: Metadata) -> pa.Array | None:
        """The same; None where no entry has anything of that filter."""
        place = self._places.get(source)
        return None if place is None else self._texts.slice(place * self._length, self._length)

    def claim(self, claim: str) -> pa.Array:
        """A claim of each entry's token; empty where there is none."""
        return blank(self._length) if self._tokens is None else self._tokens.texts(claim)

    def claims(self, wanted: Collection[str] | None) -> pa.MapArray:
        """Some claims of each entry's token, by name; all for None."""
        return empty_maps(self._length) if self._tokens is None else self._tokens.maps(wanted)

    def count(self, source: Metadata) -> pa.Array:
        """Numbers as uint32; null where there is none, or one that is no count."""
        place = self._places.get(source)
        if place is None:
            return pa.nulls(self._length, pa.uint32())
        positions = self._keyed.positions(place)
        if (positions < 0).all():
            return pa.nulls(self._length, pa.uint32())
        values = numbers(self._numbers.take(pa.array(positions, mask=positions < 0)))  # null is NaN
        good = (values >= 0) & (values < 2**32)
        return pa.array(np.where(good, values, 0).astype(np.uint32), mask=~good)


class FilterState:
    """Objects that filters left in each entry's filter state, as google.protobuf.Any."""

    def __init__(self, lists: pa.ListArray) -> None:
        self._length = len(lists)
        objects = lists.flatten()
        self._keyed: Keyed | None = None
        codes = _codes(objects.field(0), _OBJECT_SET) if len(objects) else np.zeros(0, dtype=np.int64)
        if (codes >= 0).any():
            self._keyed = Keyed(codes, numbers(lists.value_parent_indices()), len(_OBJECTS), self._length)
            self._types = objects.field(1).field(0).cast(pa.binary())
            self._values = objects.field(1).field(1)

    def peer(self, names: Sequence[str]) -> pa.Array | None:
        """Type, separator and value of the first of these objects that an entry has; empty where it has none.

        None where no entry has any of what is wanted.
        """
        if self._keyed is None:
            return None
        positions = np.full(self._length, -1, dtype=np.int64)
        for name in names:
            positions = np.where(positions < 0, self._keyed.positions(_OBJECTS.index(name)), positions)
        chosen = pa.array(positions, mask=positions < 0)
        told = pc.binary_join_element_wise(self._types.take(chosen), self._values.take(chosen), SEPARATOR)
        return told.fill_null(b"")

    def value(self, name: str) -> pa.Array | None:
        """The value of an object, null where an entry has none; None as above."""
        if self._keyed is None:
            return None
        positions = self._keyed.positions(_OBJECTS.index(name))
        return self._values.take(pa.array(positions, mask=positions < 0))


class Entries:
    """Log entries that each become a row."""

    def __init__(
        self,
        structs: pa.StructArray,
        identities: Sequence[StreamIdentity],
        streams: Indices,
        now: int,
        wanted: Wanted,
    ) -> None:
        """Takes decoded entries.

        Args:
            structs: HTTPAccessLogEntry or TCPAccessLogEntry as projected.
            identities: distinct identities of their streams.
            streams: for each entry the index of its identity.
            now: nanoseconds since the epoch, for an entry without a start.
            wanted: what the table's columns read of dynamic metadata and custom tags.
        """
        self._structs = structs
        self._wanted = wanted
        self._nodes: dict[str, pa.Array] = {}
        self.identities = identities
        self.streams = streams
        self.now = now

    def __len__(self) -> int:
        return len(self._structs)

    def at(self, path: str) -> pa.Array:
        """The array at a path, lists of one message's fields included (`subject_alt_name` but not what is below)."""
        node = self._nodes.get(path)
        if node is None:
            above, _, name = path.rpartition(".")
            parent = self.at(above) if above else self._structs
            node = self._nodes[path] = parent.field(name)
        return node

    def numbers(self, path: str) -> npt.NDArray[Any]:
        """The numbers at a path."""
        return numbers(self.at(path))

    def present(self, path: str) -> Mask:
        """Which entries have the message at a path."""
        mask: Mask = numbers(self.at(path).is_valid())
        return mask

    def first_of_list(self, path: str, name: str) -> pa.Array:
        """Of each entry's list at a path, field `name` of the first element where it is not empty; else null."""
        lists = self.at(path)
        values = lists.flatten().field(name)
        if is_blank(values):
            return pa.nulls(len(self), pa.string())
        positions = np.flatnonzero(said(values))[::-1]
        if not len(positions):
            return pa.nulls(len(self), pa.string())
        chosen = np.full(len(self), -1, dtype=np.int64)
        chosen[numbers(lists.value_parent_indices())[positions]] = (
            positions  # the last one set is the first in the list
        )
        return values.take(pa.array(chosen, mask=chosen < 0))

    @cached_property
    def metadata(self) -> FilterMetadata:
        """Dynamic metadata."""
        return FilterMetadata(self.at(METADATA), self._wanted)

    @cached_property
    def filter_state(self) -> FilterState:
        """Filter state."""
        return FilterState(self.at("common_properties.filter_state_objects"))

    @cached_property
    def custom_tags(self) -> Pairs:
        """Custom tags that are named as columns say."""
        return Pairs(self.at("common_properties.custom_tags"), self._wanted.tags)

    @cached_property
    def request_headers(self) -> Pairs:
        """Logged request headers."""
        return Pairs(self.at("request.request_headers"), _REQUEST_HEADERS)

    @cached_property
    def response_headers(self) -> Pairs:
        """Logged response headers."""
        return Pairs(self.at("response.response_headers"), _GRPC_HEADERS)

    @cached_property
    def response_trailers(self) -> Pairs:
        """Logged response trailers."""
        return Pairs(self.at("response.response_trailers"), _GRPC_HEADERS)

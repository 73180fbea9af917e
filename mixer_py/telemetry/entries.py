"""A slice of decoded log entries as columns: leaves, lists of pairs and metadata, each aligned with the entries.

An absent message's leaves read as their defaults, as in protobuf. Of a map's repeated key the last value counts.
Not for: meaning (`derivation.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mixer_py.telemetry.columns import EXT_AUTHZ, RATE_LIMIT, REQUESTS, VERDICT, Metadata
from mixer_py.telemetry.projection import METADATA
from mixer_py.telemetry.streams import StreamIdentity

Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

HEADERS: Final = ("content-type", "grpc-message", "grpc-status", "x-envoy-auth-failure-mode-allowed")
"""Logged headers and trailers that some column reads."""
_HEADER_SET: Final = pa.array(HEADERS)
_NAMESPACES: Final = (EXT_AUTHZ, RATE_LIMIT)
_NAMESPACE_SET: Final = pa.array(_NAMESPACES)
_SOURCES: Final = (VERDICT, *(column.source for column in REQUESTS.columns if isinstance(column.source, Metadata)))
_KEYS: Final = tuple(dict.fromkeys(source.key for source in _SOURCES))
_KEY_SET: Final = pa.array(_KEYS)


def numbers(array: pa.Array) -> npt.NDArray[Any]:
    """The array's values as numpy sees them, without a copy where that is possible; nulls are not expected."""
    values: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return values


def _codes(keys: pa.Array, wanted: pa.Array) -> Indices:
    """For each key its place among the wanted ones, -1 for any other."""
    found: Indices = numbers(pc.fill_null(pc.index_in(keys, value_set=wanted), -1)).astype(np.int64)
    return found


def place(values: pa.Array, rows: Indices, positions: Indices, length: int) -> pa.Array:
    """An array of `length` with `values[positions]` at `rows` and null elsewhere; of a repeated row the last counts."""
    chosen = np.full(length, -1, dtype=np.int64)
    chosen[rows] = positions
    return values.take(pa.array(chosen, mask=chosen < 0))


class Pairs:
    """A map<string, string> of each entry, such as its logged request headers."""

    def __init__(self, lists: pa.ListArray) -> None:
        self._length = len(lists)
        pairs = lists.flatten()
        self._rows: Indices = numbers(pc.list_parent_indices(lists))
        self._values = pairs.field(1)
        self._codes = _codes(pairs.field(0), _HEADER_SET)

    def get(self, name: str) -> pa.Array:
        """The values of one of `HEADERS`; null where it was not logged."""
        positions = np.flatnonzero(self._codes == HEADERS.index(name))
        if not len(positions):
            return pa.nulls(self._length, pa.string())
        return place(self._values, self._rows[positions], positions, self._length)


class FilterMetadata:
    """The scalars that our two filters left in each entry's dynamic metadata."""

    def __init__(self, lists: pa.ListArray) -> None:
        self._length = len(lists)
        namespaces = lists.flatten()
        rows: Indices = numbers(pc.list_parent_indices(lists))
        codes = _codes(namespaces.field(0), _NAMESPACE_SET)
        structs = namespaces.field(1).field(0)
        fields = structs.flatten()
        owners: Indices = numbers(pc.list_parent_indices(structs))
        # Of a repeated namespace the last struct replaces the others as a whole.
        slots = np.where(codes < 0, 0, rows * len(_NAMESPACES) + codes + 1)
        last = np.zeros(self._length * len(_NAMESPACES) + 1, dtype=np.int64)
        last[slots] = np.arange(len(slots))
        counted = (codes >= 0) & (last[slots] == np.arange(len(slots)))
        keys = _codes(fields.field(0), _KEY_SET)
        self._rows = rows[owners]
        self._codes = np.where(counted[owners] & (keys >= 0), codes[owners] * len(_KEYS) + keys, -1)
        self._numbers, self._texts = fields.field(1).field(0), fields.field(1).field(1)

    def _positions(self, source: Metadata) -> Indices:
        return np.flatnonzero(self._codes == _NAMESPACES.index(source.namespace) * len(_KEYS) + _KEYS.index(source.key))

    def text(self, source: Metadata) -> pa.Array:
        """Strings; empty where there is none."""
        positions = self._positions(source)
        if not len(positions):
            return pa.repeat("", self._length)
        return pc.fill_null(place(self._texts, self._rows[positions], positions, self._length), "")

    def count(self, source: Metadata) -> pa.Array:
        """Numbers as uint32; null where there is none, or one that is no count."""
        positions = self._positions(source)
        if not len(positions):
            return pa.nulls(self._length, pa.uint32())
        values = numbers(place(self._numbers, self._rows[positions], positions, self._length))  # null is NaN
        good = (values >= 0) & (values < 2**32)
        return pa.array(np.where(good, values, 0).astype(np.uint32), mask=~good)


class Entries:
    """Log entries that each become a row."""

    def __init__(
        self, structs: pa.StructArray, identities: Sequence[StreamIdentity], streams: Indices, now: int
    ) -> None:
        """Takes decoded entries.

        Args:
            structs: HTTPAccessLogEntry as projected.
            identities: distinct identities of their streams.
            streams: for each entry the index of its identity.
            now: nanoseconds since the epoch, for an entry without a start.
        """
        self._structs = structs
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
        filled = numbers(pc.fill_null(pc.not_equal(values, ""), false_value()))
        positions = np.flatnonzero(filled)[::-1]  # the last one placed counts
        if not len(positions):
            return pa.nulls(len(self), pa.string())
        return place(values, numbers(pc.list_parent_indices(lists))[positions], positions, len(self))

    @cached_property
    def metadata(self) -> FilterMetadata:
        """Dynamic metadata."""
        return FilterMetadata(self.at(METADATA))

    @cached_property
    def request_headers(self) -> Pairs:
        """Logged request headers."""
        return Pairs(self.at("request.request_headers"))

    @cached_property
    def response_headers(self) -> Pairs:
        """Logged response headers."""
        return Pairs(self.at("response.response_headers"))

    @cached_property
    def response_trailers(self) -> Pairs:
        """Logged response trailers."""
        return Pairs(self.at("response.response_trailers"))


def false_value() -> pa.Scalar:
    """False as Arrow has it."""
    return pa.scalar(False)  # noqa: FBT003 (a value)

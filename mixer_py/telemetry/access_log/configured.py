"""Readers of what is found only where it is named: headers, trailers, parameters of the query, claims.

Not for: who names them (`privacy_settings.py`, `metric_reads.py`), or what is masked of them (`row_masking.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final
from urllib.parse import parse_qsl

import pyarrow as pa
import pyarrow.compute as pc

from mixer_py.telemetry.access_log.derivation import Slice, text_or
from mixer_py.telemetry.access_log.entries import numbers
from mixer_py.telemetry.access_log.maps import empty_maps, maps_of, spread_maps
from mixer_py.telemetry.column import Named, NamedBySetting, NamedClaims, NamedHeader, NamedParameters
from mixer_py.telemetry.privacy_settings import ALL
from mixer_py.telemetry.row_masking import without
from mixer_py.telemetry.texts import blank

Reader = Callable[[Slice], pa.Array]

_MOST_PARAMETERS: Final = 1000
"""Parameters that are looked at in one query."""


def reader(source: NamedBySetting, names: Collection[str]) -> Reader:
    """How what is named is read from such a source."""
    match source:
        case Named(path):
            return _members(path, names)
        case NamedHeader(path, header):
            return _header(path, header, names)
        case NamedParameters(path, otherwise):
            return _query(path, otherwise, names)
        case NamedClaims():
            return _claims(names)


def _members(path: str, names: Collection[str]) -> Reader:
    """Members of the map at a path, in maps."""
    if not names:
        return _nothing
    if ALL in names:
        return lambda part: maps_of(part.entries.at(path))
    wanted = pa.array(names, pa.string())

    def read(part: Slice) -> pa.Array:
        maps = maps_of(part.entries.at(path))
        if not len(maps.keys):
            return maps
        return without(maps, ~numbers(pc.is_in(maps.keys, value_set=wanted)))

    return read


def _header(path: str, name: str, names: Collection[str]) -> Reader:
    """The text at a path, where the header that it holds is named; else empty."""
    if name in names or ALL in names:
        return lambda part: part.entries.at(path)
    return lambda part: blank(len(part.entries))


def _query(path: str, otherwise: str, names: Collection[str]) -> Reader:
    """Parameters of the query in a path, decoded, in maps; each distinct path is read once."""
    if not names:
        return _nothing
    wanted = None if ALL in names else frozenset(names)

    def read(part: Slice) -> pa.Array:
        paths = text_or(part.entries.at(path), part.entries.at(otherwise)).dictionary_encode()
        maps = [_parameters(text, wanted) for text in paths.dictionary.to_pylist()]
        return spread_maps(maps, numbers(paths.indices))

    return read


def _claims(names: Collection[str]) -> Reader:
    """Claims of the token, in maps; each distinct token is read once."""
    if not names:
        return _nothing
    wanted = None if ALL in names else frozenset(names)
    return lambda part: part.entries.metadata.claims(wanted)


def _parameters(path: str, wanted: Collection[str] | None) -> dict[str, str]:
    """Of a repeated parameter the first value, as policies see it (`attributes/bag.py`)."""
    query = path.partition("#")[0].partition("?")[2]
    if not query:
        return {}
    pieces = "&".join(query.split("&", _MOST_PARAMETERS)[:_MOST_PARAMETERS])
    found = dict(reversed(parse_qsl(pieces, keep_blank_values=True)))
    return {name: value for name, value in reversed(found.items()) if wanted is None or name in wanted}


def _nothing(part: Slice) -> Any:  # noqa: ANN401 (an Arrow array, whose types are not known to mypy)
    return empty_maps(len(part.entries))

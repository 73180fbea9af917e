"""Tokens that log entries carry in dynamic metadata, as columns; each distinct token is read once.

Not for: what its claims say (`attributes/tokens.py`), or which of them are shown (`configured.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from google.protobuf import struct_pb2
from google.protobuf.message import DecodeError

from mixer_py.attributes.tokens import ISSUER, claim_text, claims_as_texts
from mixer_py.telemetry.access_log.maps import spread_maps


class Tokens:
    """The payload of the token of each entry; each distinct one is read once."""

    def __init__(
        self, chosen: npt.NDArray[np.bool_], rows: npt.NDArray[np.int64], structs: pa.Array, length: int
    ) -> None:
        """Takes structs.

        Args:
            chosen: which of the structs may be tokens; those with an issuer are.
            rows: for each of them the entry that has it.
            structs: serialized, null where there is none.
            length: how many entries there are.
        """
        positions = np.flatnonzero(chosen & np.asarray(structs.is_valid()))
        encoded = structs.take(pa.array(positions)).dictionary_encode()
        self._payloads = [_claims(value) for value in encoded.dictionary.to_pylist()]
        good = np.array([ISSUER in payload for payload in self._payloads], dtype=np.bool_)
        kinds: npt.NDArray[np.int64] = encoded.indices.to_numpy().astype(np.int64)
        kept = np.flatnonzero(good[kinds])[::-1] if len(kinds) else kinds  # the last one set is an entry's first
        self._of_row = np.full(length, -1, dtype=np.int64)
        self._of_row[rows[positions[kept]]] = kinds[kept]

    def texts(self, claim: str) -> pa.Array:
        """A claim of each entry's token; empty where there is none."""
        texts = pa.array([*(claim_text(payload, claim) for payload in self._payloads), ""], pa.string())
        return texts.take(pa.array(self._places))

    def maps(self, wanted: Collection[str] | None) -> pa.MapArray:
        """Some claims by name, or all; nothing where there is no token."""
        return spread_maps([*(claims_as_texts(payload, wanted) for payload in self._payloads), {}], self._places)

    @property
    def _places(self) -> npt.NDArray[np.int64]:
        """For each row the place of its payload, behind the last where it has none."""
        return np.where(self._of_row < 0, len(self._payloads), self._of_row)


def _claims(value: bytes) -> Mapping[str, struct_pb2.Value]:
    """The fields of a Struct; none where it is malformed."""
    try:
        return struct_pb2.Struct.FromString(value).fields
    except DecodeError:
        return {}

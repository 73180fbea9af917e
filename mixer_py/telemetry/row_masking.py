"""Masks rows, a column at a time, before anything is counted, queued or spooled.

What a column may hold of secrets is said in the table of columns (`Column.secrets`); which names are those of secrets
in `secret_names.py`; text is masked as in decisions (`masking.py`). Work on single values is done once for each
distinct name, and only for texts in which a name can stand.
Not for: the input of decisions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mixer_py.telemetry.column import Column
from mixer_py.telemetry.decision_log_settings import MaskSettings
from mixer_py.telemetry.masking import MASKED, Mask
from mixer_py.telemetry.privacy_settings import Operation, RowMaskSettings
from mixer_py.telemetry.texts import has_any

Step = Callable[[pa.Array], pa.Array]
"""A column's values as they may be shown."""

_HASH_BYTES: Final = 16
_MARK: Final = pa.scalar(MASKED)
_NO_TEXT: Final = pa.scalar("")
_BEFORE_VALUES: Final = "=%"
"""Only behind such a character can there be a name and its value (`Mask.text`)."""


class RowMask:
    """Masks by the settings of one snapshot. Holds no row."""

    def __init__(self, settings: RowMaskSettings | None = None) -> None:
        """Compiles the settings.

        Raises:
            OSError: the file of the hash's key cannot be read.
        """
        settings = settings or RowMaskSettings()
        names = MaskSettings(defaults=settings.defaults, headers=settings.headers, query=settings.query)
        self._mask = Mask(names)
        self._rules = {
            tuple(place.split("/", 1)): operation for place, operation in settings.columns.items()
        }  # a column, or a column and a member
        key = settings.hash_key.reveal().encode() if settings.hash_key is not None else b""
        self._hash_key = hashlib.blake2b(key).digest()

    def step(self, column: Column) -> Step | None:
        """How a column is masked; None where it is shown as it is."""
        steps = [step for step in (self._by_content(column), *self._by_rules(column)) if step is not None]
        if len(steps) < 2:
            return steps[0] if steps else None

        def all_of_them(values: pa.Array) -> pa.Array:
            for step in steps:
                values = step(values)
            return values

        return all_of_them

    def _by_content(self, column: Column) -> Step | None:
        """Masks secrets wherever the column may have some."""
        match column.secrets:
            case "text":
                return self._text
            case "headers":
                return lambda maps: self._members(maps, self._mask.names.is_header)
            case "parameters":
                return lambda maps: self._members(maps, self._mask.names.is_parameter)
        return None

    def _text(self, texts: pa.Array) -> pa.Array:
        """Masks what follows the name of a secret in any text."""
        if not has_any(texts, _BEFORE_VALUES):
            return texts
        may_have = pc.match_substring_regex(texts, f"[{_BEFORE_VALUES}]")
        if not pc.any(may_have).as_py():
            return texts
        masked = [self._mask.text(text) for text in texts.filter(may_have).to_pylist()]
        return pc.replace_with_mask(texts, may_have, pa.array(masked, pa.string()))

    def _members(self, maps: pa.MapArray, is_secret: Callable[[str], bool]) -> pa.MapArray:
        """Masks the values of members with a secret's name, and secrets in the text of others."""
        if not len(maps.items):
            return maps
        return _with_values(maps, self._text(_marked(maps.items, _chosen(maps.keys, is_secret))))

    def _by_rules(self, column: Column) -> list[Step]:
        """Does what the settings say of the column and of its members."""
        found: list[Step] = []
        for (name, *member), operation in self._rules.items():
            if name == column.name and member:
                found.append(self._of_member(member[0], operation))
            elif name == column.name:
                found.append(self._of_column(column, operation))
        return found

    def _of_column(self, column: Column, operation: Operation) -> Step:
        if operation == "remove":
            return lambda values: pa.array([column.kind.default] * len(values), column.kind.arrow)
        change = self._changed if operation == "hash" else _marked
        if column.kind.is_map:
            return lambda maps: _with_values(maps, change(maps.items))
        return change

    def _of_member(self, member: str, operation: Operation) -> Step:
        def step(maps: pa.MapArray) -> pa.MapArray:
            chosen = np.asarray(pc.equal(maps.keys, member), dtype=np.bool_)
            if not chosen.any():
                return maps
            if operation == "remove":
                return without(maps, chosen)
            change = self._changed if operation == "hash" else _marked
            return _with_values(maps, change(maps.items, chosen))

        return step

    def _changed(self, texts: pa.Array, chosen: npt.NDArray[np.bool_] | None = None) -> pa.Array:
        """The texts hashed, or those of them that are chosen; an empty one stays empty."""
        encoded = texts.dictionary_encode()
        hashed = pa.array([self._hash(text) for text in encoded.dictionary.to_pylist()], pa.string())
        new = hashed.take(encoded.indices)
        return new if chosen is None else pc.if_else(pa.array(chosen), new, texts)

    def _hash(self, text: str) -> str:
        if not text:
            return ""
        return hashlib.blake2b(text.encode(), key=self._hash_key, digest_size=_HASH_BYTES).hexdigest()


def without(maps: pa.MapArray, left_out: npt.NDArray[np.bool_]) -> pa.MapArray:
    """The maps less some of their members, which stand one after another as in `maps.keys`."""
    before = np.concatenate(([0], np.cumsum(~left_out)))
    offsets = before[maps.offsets.to_numpy()].astype(np.int32)
    kept = pa.array(~left_out)
    return pa.MapArray.from_arrays(pa.array(offsets), maps.keys.filter(kept), maps.items.filter(kept))


def _with_values(maps: pa.MapArray, values: pa.Array) -> pa.MapArray:
    return pa.MapArray.from_arrays(maps.offsets, maps.keys, values)


def _chosen(keys: pa.Array, is_chosen: Callable[[str], bool]) -> npt.NDArray[np.bool_]:
    """Which keys are meant; each distinct one is asked once."""
    encoded = keys.dictionary_encode()
    meant = np.array([is_chosen(key) for key in encoded.dictionary.to_pylist()], dtype=np.bool_)
    chosen: npt.NDArray[np.bool_] = meant[encoded.indices.to_numpy()]
    return chosen


def _marked(texts: pa.Array, chosen: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """The texts, or those of them that are chosen, as marks; an empty one stays empty."""
    said = pc.not_equal(texts, _NO_TEXT)
    return pc.if_else(said if chosen is None else pc.and_(said, pa.array(chosen)), _MARK, texts)

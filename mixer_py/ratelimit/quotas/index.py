"""Which quotas may match a check, without trying each.

A quota that asks for `attribute == constant` (or `in` constants) on the way to a match can be passed over wherever that
attribute, or that key of a map, has another value or none. So those that ask so for the same one stand in one table by
the constant, and a check costs one look-up for each such table, however many quotas there are; the rest are tried in
turn.
Not for: whether one matches (`quota.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mixer_py.attributes.bag import Bag
from mixer_py.expressions import Reference
from mixer_py.ratelimit.quotas.quota import Quota


class QuotaIndex:
    """The quotas of one snapshot by what they ask for."""

    __slots__ = ("_always", "_tables")

    def __init__(self, quotas: Iterable[Quota]) -> None:
        """Puts each quota into one table: that of the reference which tells most of them apart."""
        tried = [quota for quota in quotas if not quota.named_only]
        constants: dict[Reference, set[object]] = {}
        for quota in tried:
            for reference, values in _equalities(quota).items():
                constants.setdefault(reference, set()).update(values)
        tables: dict[Reference, dict[object, list[Quota]]] = {}
        always: list[Quota] = []
        for quota in tried:
            equalities = _equalities(quota)
            if not equalities:
                always.append(quota)
                continue
            reference = max(equalities, key=lambda one: (len(constants[one]), one.attribute, one.key or ""))
            table = tables.setdefault(reference, {})
            for value in equalities[reference]:
                table.setdefault(value, []).append(quota)
        self._always = tuple(always)
        self._tables = tuple(
            (reference.attribute, reference.key, {value: tuple(found) for value, found in table.items()})
            for reference, table in tables.items()
        )

    def candidates(self, bag: Bag) -> Sequence[Quota]:
        """Those that may match; every other one does not."""
        found = self._always
        for attribute, key, table in self._tables:
            value: Any = bag.get(attribute)
            if key is not None and value is not None:
                value = value.get(key)
            found += table.get(value, ())
        return found


def _equalities(quota: Quota) -> Mapping[Reference, frozenset[Any]]:
    return {} if quota.match is None else quota.match.equalities

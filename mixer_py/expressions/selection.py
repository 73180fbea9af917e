"""Which of many conditions may hold: found by the constants they ask for, and not by evaluating each in turn.

Of 10,000 quotas that each ask for another tenant a check has to evaluate one. Not for: evaluating.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from mixer_py.attributes.bag import Value
from mixer_py.expressions.compiling import Expression, Reference
from mixer_py.expressions.generation import Attributes


@dataclass(frozen=True, slots=True)
class Selected:
    """What is left of the conditions for one check, as their numbers; all others are false.

    Attributes:
        possible: may be true, false, or fail; ascending.
        lacking: ask for the value of something that is absent: each fails, unless another operand makes it false. Who
            skips what fails need not evaluate them.
    """

    possible: Sequence[int]
    lacking: Sequence[int]


@dataclass(frozen=True, slots=True)
class _Index:
    """The conditions that are looked up by one reference, by the constants they ask for."""

    reference: Reference
    by_value: Mapping[Value, tuple[int, ...]]
    all: tuple[int, ...]


class Selection:
    """Conditions, numbered as they were given, ready to be selected from."""

    def __init__(self, conditions: Sequence[Expression]) -> None:
        """Each condition is looked up by that of its references which tells the most of them apart."""
        kinds: dict[Reference, set[Value]] = {}
        for condition in conditions:
            for reference, values in condition.equalities.items():
                kinds.setdefault(reference, set()).update(values)
        groups: dict[Reference, dict[Value, list[int]]] = {}
        members: dict[Reference, list[int]] = {}
        others: list[int] = []
        for number, condition in enumerate(conditions):
            if not condition.equalities:
                others.append(number)
                continue
            chosen = max(condition.equalities, key=lambda reference: len(kinds[reference]))
            members.setdefault(chosen, []).append(number)
            group = groups.setdefault(chosen, {})
            for value in condition.equalities[chosen]:
                group.setdefault(value, []).append(number)
        self._others = tuple(others)
        self._indexes = tuple(
            _Index(
                reference,
                MappingProxyType({value: tuple(numbers) for value, numbers in group.items()}),
                tuple(members[reference]),
            )
            for reference, group in groups.items()
        )

    def select(self, attributes: Attributes) -> Selected:
        """The conditions that may hold for these attributes; its cost does not grow with those that do not."""
        possible = self._others
        lacking: tuple[int, ...] = ()
        for index in self._indexes:
            value = _read(attributes, index.reference)
            if value is None:
                lacking += index.all
            else:
                possible += index.by_value.get(value, ())
        return Selected(sorted(possible), lacking)


def _read(attributes: Attributes, reference: Reference) -> Value | None:
    value = attributes.get(reference.attribute)
    if reference.key is None or value is None:
        return value
    return value.get(reference.key) if isinstance(value, Mapping) else None

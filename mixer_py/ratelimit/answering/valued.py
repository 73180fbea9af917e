"""Limits whose values stand in metrics (`detailed_metric`, `value_to_metric`): a series for each, up to a bound.

Not for: the text of a label (`Rule.label`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from mixer_py.instruments import Counter
from mixer_py.ratelimit.answering.statistics import Statistics
from mixer_py.ratelimit.answering.targets import Target
from mixer_py.ratelimit.rules import Rule

OTHER: Final = "(other)"
"""In the values' place, for those beyond the bound."""

_LONGEST_VALUES: Final = 512
"""Characters; longer ones would let a caller fill the memory with its labels."""


class ValuedTarget:
    """One rule's target, once more for each of its values, with statistics of its own.

    Attributes:
        beyond: the target for values that get no series of their own; each that gets it is counted.
    """

    __slots__ = ("_known", "_most", "_overflow", "_rule", "_statistics", "_target", "beyond")

    def __init__(self, rule: Rule, target: Target, statistics: Statistics, overflow: Counter, most: int) -> None:
        """Prepares the series that takes what is beyond the bound.

        Args:
            rule: has values to show.
            target: of the rule.
            statistics: where series are made.
            overflow: counts descriptors that got no series of their own.
            most: how many values get one.
        """
        self._rule = rule
        self._known: dict[tuple[str, ...], Target] = {}
        self._statistics = statistics
        self._overflow = overflow
        self._most = most
        self._target = target
        self.beyond = self._counted_as(f"{rule.name}/{OTHER}")

    def of(self, entries: Sequence[str]) -> Target:
        """The target for what `Domain.match` gave."""
        values = self._rule.values(entries)
        known = self._known.get(values)
        if known is not None:
            return known
        if len(self._known) >= self._most or sum(map(len, values)) > _LONGEST_VALUES:
            self._overflow.add()
            return self.beyond
        self._known[values] = target = self._counted_as(self._rule.label(values))
        return target

    def _counted_as(self, label: str) -> Target:
        shadow_mode = self._rule.shadow_mode
        return replace(self._target, statistics=self._statistics.of(self._rule.domain, label, shadow_mode=shadow_mode))

"""What is counted of every rule: descriptors by their answer, and hits by where they fell against the limit.

A series is made when it first counts something, so that a rule which is never hit costs no room; from then on counting
is one addition. Not for: the time that things take (`instruments/stages.py`).
"""

from __future__ import annotations

from struct import pack, unpack
from typing import Final

from mixer_py.instruments import Counter, Registry
from mixer_py.ratelimit.algorithms import Tally, Terms

NO_RULE: Final = "(none)"
UNKNOWN_DOMAIN: Final = "(unknown)"
MAX_LABEL_SETS: Final = 100_000

_CODES: Final = {
    "ok": "OK",
    "over_limit": "OVER_LIMIT",
    "shadow_over_limit": "SHADOW_OVER_LIMIT",
    "error": "ERROR",
    "replaced": "REPLACED",
}
_OUTCOMES: Final = {
    "within": "within",
    "near": "near",
    "over": "over",
    "over_local": "over_local",
    "shadow_over": "shadow_over",
    "given_back": "given_back",
}


class Statistics:
    """The families, shared by every rule."""

    def __init__(self, registry: Registry, *, shadow_mode: bool = False) -> None:
        """Declares the families.

        Args:
            registry: gets `mixer_rate_limits_total{domain,rule,code}`, one for each descriptor,
                `mixer_rate_limit_hits_total{domain,rule,outcome}` and `mixer_rate_limit_values_overflow_total`.
            shadow_mode: nothing is refused, whatever a rule says (`rate_limit.shadow_mode`).
        """
        self.descriptors = registry.counter(
            "mixer_rate_limits_total",
            "Descriptors by the rule that they matched and the answer that they got.",
            ("domain", "rule", "code"),
            max_label_sets=MAX_LABEL_SETS,
        )
        self.hits = registry.counter(
            "mixer_rate_limit_hits_total",
            "Hits by the rule that they were held against and by where they fell; each stands in one outcome.",
            ("domain", "rule", "outcome"),
            max_label_sets=MAX_LABEL_SETS,
        )
        self._beyond_values = registry.counter(
            "mixer_rate_limit_values_overflow_total",
            "Descriptors whose values got no series of their own, by rule (rate_limit.max_metric_values).",
            ("domain", "rule"),
            max_label_sets=MAX_LABEL_SETS,
        )
        self._shadow_mode = shadow_mode

    def beyond_values(self, domain: str, rule: str) -> Counter:
        """Counts descriptors whose values got no series of their own."""
        return self._beyond_values.labels(domain, rule)

    def of(self, domain: str, rule: str, *, shadow_mode: bool = False) -> RuleStatistics:
        """What is counted of one rule; under shadow mode what is over is let in."""
        return RuleStatistics(self, domain, rule, shadow_mode=shadow_mode or self._shadow_mode)


class RuleStatistics:
    """The cells of one rule.

    Attributes:
        ok: descriptors whose hits are let in.
        over_limit: those whose hits are not.
        shadow_over_limit: those that are over and let in all the same.
        error: those whose counter could not be kept.
        replaced: those whose limit another one switched off.
        within: hits below the near mark.
        near: hits between the near mark and the limit.
        over: hits that did not fit.
        over_local: the same, known without asking the store.
        shadow_over: hits that did not fit and were let in all the same.
        given_back: negative hits.
    """

    __slots__ = (*_CODES, *_OUTCOMES, "_domain", "_families", "_rule", "_shadow_mode")

    ok: Counter
    over_limit: Counter
    shadow_over_limit: Counter
    error: Counter
    replaced: Counter
    within: Counter
    near: Counter
    over: Counter
    over_local: Counter
    shadow_over: Counter
    given_back: Counter

    def __init__(self, families: Statistics, domain: str, rule: str, *, shadow_mode: bool) -> None:
        self._families = families
        self._domain = domain
        self._rule = rule
        self._shadow_mode = shadow_mode

    def __getattr__(self, name: str) -> Counter:
        """Makes a cell when it is first counted with; from then on its slot has it, and this is not called."""
        if name in _CODES:
            cell = self._families.descriptors.labels(self._domain, self._rule, _CODES[name])
        elif name in _OUTCOMES:
            cell = self._families.hits.labels(self._domain, self._rule, _OUTCOMES[name])
        else:
            raise AttributeError(name)
        setattr(self, name, cell)
        return cell

    def count(self, hits: int, tally: Tally, near_room: int) -> None:
        """Counts one charge.

        Args:
            hits: what was charged; 0 only looked, negative ones were given back.
            tally: what became of it.
            near_room: of `near_room`.
        """
        if not tally.admitted:
            (self.shadow_over_limit if self._shadow_mode else self.over_limit).add()
        else:
            self.ok.add()
        if hits <= 0:
            if hits:
                self.given_back.add(-hits)
            return
        fit = hits
        if tally.over:
            fit -= tally.over
            if self._shadow_mode:
                self.shadow_over.add(tally.over)
            else:
                (self.over_local if tally.local else self.over).add(tally.over)
        if fit:
            near = near_room - tally.remaining
            if near > 0:
                near = min(near, fit)
                self.near.add(near)
                fit -= near
            if fit:
                self.within.add(fit)


def near_room(terms: Terms, ratio: float) -> int:
    """How many hits fit between the near mark and the limit.

    The mark is floor(limit * ratio) in single precision, as envoyproxy/ratelimit computes it.

    Args:
        terms: of the rule; of a token bucket it is the burst that is filled.
        ratio: `rate_limit.near_limit_ratio`.
    """
    return terms.burst - int(_single(_single(terms.burst) * _single(ratio)))


def _single(number: float) -> float:
    """The nearest number of single precision."""
    nearest: float = unpack("f", pack("f", number))[0]
    return nearest

"""One quota, compiled: whether it matches a check, whose counter the check is charged to, and with how many hits.

Not for: charging it (`charging.py`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from envoy.service.auth.v3.attribute_context_pb2 import AttributeContext

from mixer_py.attributes.bag import Bag
from mixer_py.errors import ExpressionError
from mixer_py.expressions import Expression
from mixer_py.expressions.settings import amount, condition
from mixer_py.expressions.settings import key as compile_key
from mixer_py.instruments import Counter, Family
from mixer_py.ratelimit.identity import counter_identity, window_name
from mixer_py.ratelimit.quota_settings import MOST_HITS, QuotaSettings, parse_lease
from mixer_py.ratelimit.stores import Charge

DOMAIN = ""
"""Of the counters of quotas; no file of rules can have it."""
ABSENT = "absent"
"""`ExpressionError.reason` where an attribute, or an entry of a map, is not there."""

_NOTHING = Bag(AttributeContext())


class Matched(NamedTuple):
    """A quota that a check is to be charged for.

    Attributes:
        quota: which.
        charge: what its counter is charged.
        key: what tells that counter from the quota's others.
    """

    quota: Quota
    charge: Charge
    key: tuple[str, ...]


class Unmeasurable(NamedTuple):
    """A quota of which nobody can say what a check is to be charged.

    Attributes:
        quota: which.
        part: `match`, `key` or `cost`.
        reason: why.
        denies: the check is denied for it; else it is not charged.
    """

    quota: Quota
    part: str
    reason: str
    denies: bool


class Quota:
    """A quota of one snapshot.

    Attributes:
        name: as configured.
        match: decides whether a check is charged; None when every check is.
        named_only: no check is charged unless the policy names the quota.
        terms: what hits are held against.
        lease: hits that a worker may take ahead; 0 for none.
        shadow: counted and told, but never a reason to deny.
        used_up: the reason of a denial.
        ok: counts charges that fit.
        over: counts those that do not.
    """

    __slots__ = (
        "_absent", "_cost", "_decided", "_fixed_cost", "_key", "_key_texts", "_on_error", "_window",
        "lease", "match", "name", "named_only", "ok", "over", "settings", "shadow", "terms", "used_up",
    )  # fmt: skip

    def __init__(self, settings: QuotaSettings, decided: Family[Counter]) -> None:
        """Compiles what was checked when the settings were read.

        Args:
            settings: of this quota.
            decided: `mixer_quotas_total{quota,code}`.
        """
        self.settings = settings
        self.name = settings.name
        self.shadow = settings.shadow
        self.terms = settings.terms
        self.lease = parse_lease(settings.lease, self.terms.burst) if settings.lease else 0
        match = condition(settings.match)
        always = _constant(match)
        self.named_only = always is False
        self.match = match if always is None else None
        self.used_up = f"quota {settings.name} is used up: {' '.join(settings.limit.split())}"
        self.ok = decided.labels(settings.name, "OK")
        self.over = decided.labels(settings.name, "SHADOW_OVER_LIMIT" if settings.shadow else "OVER_LIMIT")
        self._decided = decided
        self._key = tuple(map(compile_key, settings.key))
        self._cost = amount(settings.cost)
        self._fixed_cost = _constant(self._cost)
        self._window = window_name(self.terms)
        self._absent = settings.on_absent_key
        self._on_error = settings.on_expression_error == "deny"

    def measure(self, bag: Bag) -> Matched | Unmeasurable | None:
        """What a check is to be charged; None when the quota does not match it, or is not for it.

        Args:
            bag: the check's attributes.
        """
        if self.match is not None:
            try:
                if not self.match.evaluate(bag):
                    return None
            except ExpressionError as error:
                if error.reason == ABSENT:  # what is not there fulfils no condition
                    return None
                return Unmeasurable(self, "match", str(error), self._on_error)
        return self.charge(bag, None, None)

    def charge(self, bag: Bag, key: tuple[str, ...] | None, hits: int | None) -> Matched | Unmeasurable | None:
        """What a check that the quota is for is to be charged.

        Args:
            bag: the check's attributes.
            key: parts of the counter's key; None for those of the expressions.
            hits: None for those of the expression.

        Returns:
            None when the check lacks a part of the key, and is not charged for that.
        """
        if key is None:
            parts: list[str] = []
            for expression in self._key:
                try:
                    parts.append(expression.evaluate(bag))
                except ExpressionError as error:
                    if error.reason != ABSENT:
                        return Unmeasurable(self, "key", str(error), self._on_error)
                    if self._absent != "empty":
                        return Unmeasurable(self, "key", str(error), denies=True) if self._absent == "deny" else None
                    parts.append("")
            key = tuple(parts)
        if hits is None:
            hits = self._fixed_cost
        if hits is None:
            try:
                hits = self._cost.evaluate(bag)
            except ExpressionError as error:
                return Unmeasurable(self, "cost", str(error), self._on_error)
        if hits < 0:  # it would refill what others use
            return Unmeasurable(self, "cost", f"{hits} is negative", self._on_error)
        identity = counter_identity(DOMAIN, self._window, (self.name, *key))
        return Matched(self, Charge(identity, self.terms, min(hits, MOST_HITS), self.lease), key)

    def count(self, code: str) -> None:
        """Counts a code that comes seldom; a series for each would be many."""
        self._decided.labels(self.name, code).add()


def _constant(expression: Expression) -> Any:  # noqa: ANN401 (of the expression's type)
    """The value of an expression that reads nothing; None when it reads something, or has no value."""
    if expression.reads:
        return None
    try:
        return expression.evaluate(_NOTHING)
    except ExpressionError:
        return None

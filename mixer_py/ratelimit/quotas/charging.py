"""Quotas on attributes: what a check is charged for, and what came of it.

The quotas of one check are charged together or not at all, but for those in shadow mode: they are charged when the
check was let in, and never deny it. Not for: answers to Envoy (`services/`), or what one quota charges (`quota.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from mixer_py.attributes.bag import Bag
from mixer_py.errors import CounterStoreError, UnknownQuotaError
from mixer_py.instruments import Clock, Registry
from mixer_py.instruments.stages import stage_durations
from mixer_py.ratelimit.algorithms import Tally
from mixer_py.ratelimit.quota_settings import MOST_HITS
from mixer_py.ratelimit.quotas.index import QuotaIndex
from mixer_py.ratelimit.quotas.outcome import (
    ERROR,
    NO_QUOTA,
    NOT_CHARGED,
    QuotaOutcome,
    let_in,
    over_limit,
    unkept,
    unmeasurable,
)
from mixer_py.ratelimit.quotas.quota import Matched, Quota, Unmeasurable
from mixer_py.ratelimit.settings import RateLimitSettings
from mixer_py.ratelimit.stores import CounterStore, Identity

_NOT_KEPT = "a counter could not be kept; mixer_store_errors_total says why"


class Measured(NamedTuple):
    """What a check is to be charged.

    Attributes:
        matched: quotas, each with its charge.
        failed: those of which nobody can say what to charge.
    """

    matched: Sequence[Matched]
    failed: Sequence[Unmeasurable]


class Asked(Protocol):
    """A quota that the policy names."""

    @property
    def name(self) -> str:
        """Of the quota."""

    @property
    def key(self) -> tuple[str, ...] | None:
        """Parts of the counter's key; None for those of the quota's expressions."""

    @property
    def hits(self) -> int | None:
        """How many; None for the quota's cost."""


class Quotas:
    """The quotas of one snapshot, over a store that outlives it."""

    __slots__ = (
        "_by_name", "_charged", "_clock", "_failures", "_headers", "_index", "_not_charged", "_on_error", "_store",
    )  # fmt: skip

    def __init__(self, settings: RateLimitSettings, store: CounterStore, registry: Registry, clock: Clock) -> None:
        """Compiles the quotas.

        Args:
            settings: the quotas, what a check gets whose counters cannot be kept, and names of headers.
            store: where hits are counted.
            registry: gets `mixer_quotas_total{quota,code}`, `mixer_quota_expression_errors_total{quota,part}`, and the
                durations of the stage `store`.
            clock: of the durations.
        """
        decided = registry.counter(
            "mixer_quotas_total", "Quotas that checks matched, by what came of it.", ("quota", "code"),
            max_label_sets=100_000,
        )  # fmt: skip
        self._failures = registry.counter(
            "mixer_quota_expression_errors_total", "Expressions of quotas that had no value.", ("quota", "part"),
            max_label_sets=10_000,
        )  # fmt: skip
        self._by_name = {one.name: Quota(one, decided) for one in settings.quotas}
        self._index = QuotaIndex(self._by_name.values())
        self._store = store
        self._on_error = settings.on_error
        self._headers = settings.headers
        self._clock = clock
        stages = stage_durations(registry)
        self._charged = stages.labels("ext_authz", "store", "ok")
        self._not_charged = stages.labels("ext_authz", "store", "error")

    async def charge(self, context: Any, asked: Sequence[Asked] = ()) -> QuotaOutcome:  # noqa: ANN401 (a message)
        """Charges a check that the policy allowed.

        Args:
            context: `envoy.service.auth.v3.AttributeContext`.
            asked: quotas that the policy names; each is charged as it says, and not once more where it matches too.

        Returns:
            What came of it; NO_QUOTA when there was nothing to charge.

        Raises:
            UnknownQuotaError: the policy names a quota that there is not.
        """
        matched, failed = self.measure(context, asked)
        denying = self._denying(failed) if failed else ()
        if denying:
            return unmeasurable(denying)
        if not matched:
            return NO_QUOTA
        enforced = [one for one in matched if not one.quota.shadow]
        charged: list[tuple[Matched, Tally]] = []
        if enforced:
            try:
                charged = await self._charge_together(enforced)
            except CounterStoreError as error:
                for one in enforced:
                    one.quota.count(ERROR)
                return unkept(self._on_error, enforced, str(error))
            if not _count(charged):
                return over_limit(charged, self._headers)
        if len(enforced) < len(matched):
            charged += await self._charge_shadows([one for one in matched if one.quota.shadow])
        return let_in(charged) if charged else NO_QUOTA

    def measure(self, context: Any, asked: Sequence[Asked] = ()) -> Measured:  # noqa: ANN401
        """What a check is to be charged, and of which quotas nobody can say it; charges nothing.

        Raises:
            UnknownQuotaError: the policy names a quota that there is not.
        """
        bag = Bag(context)
        measured: list[Matched | Unmeasurable | None] = []
        named: frozenset[str] = frozenset()
        if asked:
            named = frozenset(one.name for one in asked)
            for one in asked:
                quota = self._by_name.get(one.name)
                if quota is None:
                    raise unknown_quota(one.name, self._by_name)
                measured.append(quota.charge(bag, one.key, one.hits))
        measured += [quota.measure(bag) for quota in self._index.candidates(bag) if quota.name not in named]
        matched = [one for one in measured if type(one) is Matched]
        failed = [one for one in measured if type(one) is Unmeasurable]
        return Measured(_joined(matched) if len(asked) > 1 else matched, failed)

    def _denying(self, failed: Sequence[Unmeasurable]) -> Sequence[Unmeasurable]:
        """Counts what had no value; those for which the check is denied."""
        for one in failed:
            self._failures.labels(one.quota.name, one.part).add()
        denying = [one for one in failed if one.denies and not one.quota.shadow]
        for one in denying:
            one.quota.count(ERROR)
        return denying

    async def _charge_together(self, matched: Sequence[Matched]) -> list[tuple[Matched, Tally]]:
        """All or none.

        Raises:
            CounterStoreError: not all counters can be kept.
        """
        begun = self._clock.monotonic()
        try:
            tallies = await self._store.charge([one.charge for one in matched], together=True)
        except CounterStoreError:
            self._not_charged.observe(self._clock.monotonic() - begun)
            raise
        self._charged.observe(self._clock.monotonic() - begun)
        kept = [(one, tally) for one, tally in zip(matched, tallies, strict=True) if tally is not None]
        if len(kept) < len(matched):
            raise CounterStoreError(_NOT_KEPT)
        return kept

    async def _charge_shadows(self, matched: Sequence[Matched]) -> list[tuple[Matched, Tally]]:
        """Each by itself, as if it stood alone: what one of them would refuse does not spare the others."""
        results = await asyncio.gather(*(self._charge_together([one]) for one in matched), return_exceptions=True)
        charged: list[tuple[Matched, Tally]] = []
        for one, result in zip(matched, results, strict=True):
            if isinstance(result, CounterStoreError):
                one.quota.count(ERROR)
            elif isinstance(result, BaseException):
                raise result
            else:
                charged += result
        _count(charged)
        return charged


def unknown_quota(name: str, known: Iterable[str]) -> UnknownQuotaError:
    """The error for a quota that there is not, with the way out."""
    names = ", ".join(sorted(known)) or "none"
    return UnknownQuotaError(
        f"result.quotas: there is no quota {name[:80]!r} in rate_limit.quotas; known: {names[:400]}"
    )


def _count(charged: Sequence[tuple[Matched, Tally]]) -> bool:
    """Counts what came of each; whether all were admitted."""
    all_in = all(tally.admitted for _, tally in charged)
    for (quota, _, _), tally in charged:
        if not tally.admitted:
            quota.over.add()
        elif all_in or quota.shadow:
            quota.ok.add()
        else:
            quota.count(NOT_CHARGED)
    return all_in


def _joined(matched: Sequence[Matched]) -> list[Matched]:
    """Charges of one counter as one charge."""
    by_identity: dict[Identity, Matched] = {}
    for one in matched:
        identity = one.charge.identity
        before = by_identity.get(identity)
        hits = one.charge.hits + (before.charge.hits if before else 0)
        by_identity[identity] = Matched(one.quota, one.charge._replace(hits=min(hits, MOST_HITS)), one.key)
    return list(by_identity.values())

"""Everything there is to say about how one request was decided: for `mixer check --explain`.

Composes what the decision point, the engine and an evaluation with marks tell. Decides nothing that counts.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

from mixer_py.errors import EvaluationError, RequestParseError
from mixer_py.policy.bundles.bundle import Bundle
from mixer_py.policy.cache_key import readable_key
from mixer_py.policy.explaining.held import RuleTrace, trace_rules
from mixer_py.policy.point import DecisionPoint, Explanation
from mixer_py.policy.policy import Policy
from mixer_py.policy.reference import join
from mixer_py.policy.settings import CacheSettings, PolicySettings

_RUNS: Final = 20


@dataclass(frozen=True, slots=True)
class Read:
    """An attribute that the decision reads.

    Attributes:
        reference: `input.attributes.request.http.method`.
        present: whether this request has it.
        value: with secrets hashed; None when it is not there.
    """

    reference: str
    present: bool
    value: object


@dataclass(frozen=True, slots=True)
class Account:
    """How a request was decided.

    Attributes:
        point: what the decision point says; None when no policy stands behind it.
        why_tier: why nothing faster evaluates; empty when nothing is faster, or nobody knows.
        rules: bodies of rules that were tried, in order of files and lines; None where another program evaluates.
        prints: what `print` was given.
        reads: attributes that the decision reads; None when it may be any.
        again: median of seconds of an evaluation that was made before; None when it fails.
        cached: median of seconds of an answer from the cache; None when none is kept.
    """

    point: Explanation | None
    why_tier: str
    rules: tuple[RuleTrace, ...] | None
    prints: tuple[str, ...]
    reads: tuple[Read, ...] | None
    again: float | None
    cached: float | None


async def account_for(settings: PolicySettings, bundle: Bundle, policy: Policy, request: CheckRequest) -> Account:
    """Explain how a request is decided.

    Args:
        settings: of the policy.
        bundle: that the policy was made of.
        policy: has decided the request once.
        request: what was decided.
    """
    point = policy.select(request)
    if not isinstance(point, DecisionPoint):
        return Account(None, "", None, (), None, None, None)
    try:
        said, input_json = point.explain(request), policy.inputs.build(request)
    except RequestParseError:
        return Account(point.explain(), "", None, (), None, None, None)
    rules: tuple[RuleTrace, ...] | None = None
    prints: tuple[str, ...] = ()
    again = cached = None
    if settings.engine == "embedded":
        watched, rules = trace_rules(bundle, point.path, input_json)
        prints = watched.prints
        if said.cached:
            cached = await _median(policy, request)
            policy = Policy.compile(settings.model_copy(update={"cache": CacheSettings(entries=0)}), bundle)
        again = await _median(policy, request)
    reads = None if said.reads is None else tuple(_reads(said.reads, readable_key(orjson.loads(input_json))))
    tiers: dict[str, Any] = policy.describe().get("tiers", {})
    return Account(said, tiers.get(point.path, {}).get("why", ""), rules, prints, reads, again, cached)


async def _median(policy: Policy, request: CheckRequest) -> float | None:
    point = policy.select(request)
    spent = []
    with contextlib.redirect_stdout(io.StringIO()):  # what the policy prints was shown when it decided
        for _ in range(_RUNS):
            begun = time.perf_counter()
            try:
                await point.decide(request)
            except EvaluationError:
                return None
            spent.append(time.perf_counter() - begun)
    return statistics.median(spent)


def _reads(references: tuple[str, ...], document: object) -> Iterator[Read]:
    values = dict(_values(document, (), frozenset(references)))
    for reference in references:
        yield Read(reference, reference in values, values.get(reference))


def _values(document: object, path: tuple[str, ...], wanted: frozenset[str]) -> Iterator[tuple[str, object]]:
    name = join("input", path)
    if name in wanted:
        yield name, document
    elif isinstance(document, dict):
        for key, member in document.items():
            yield from _values(member, (*path, key), wanted)

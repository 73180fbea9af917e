"""One decision of a revision: a request in, its ruling out. Composes the input document, cache, engine and result.

Not for: which decision a request asks for (`policy.py`), or what an error means to the caller (`policy.on_error`).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Final

import orjson
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

from mixer_py.policy.cache import DecisionCache, Key, cache_key
from mixer_py.policy.cache_key import readable_key
from mixer_py.policy.decision import BYPASS, MISS, Decision, Ruling
from mixer_py.policy.document.fingerprint import Fingerprint, is_long
from mixer_py.policy.document.input import InputBuilder
from mixer_py.policy.document.projection import Projection
from mixer_py.policy.engines.protocol import Engine
from mixer_py.policy.reference import join, reference
from mixer_py.policy.result import read_result

_RVM: Final = "rvm"
_RVM_PROJECTED: Final = "rvm_projected"
_MOST_KNOWN: Final = 1000
"""Results of one decision that are held."""
_LONGEST_KNOWN: Final = 2048
"""Characters of a result that is held."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a decision treats a request, before it is made.

    Attributes:
        path: the decision's.
        tier: what evaluates when nothing stands in its way.
        reads: references of the input that can change the decision, `input.attributes.request.http.method`, sorted;
            None when any can.
        cacheable: whether the policy allows its decisions to be kept.
        cached: whether they are kept: the settings must allow it too.
        why: why the whole input is needed or the decision cannot be kept; empty when neither is so.
        key: what the request is told apart by in the cache, with secrets hashed; None for one that is not kept.
    """

    path: str
    tier: str
    reads: tuple[str, ...] | None
    cacheable: bool
    cached: bool
    why: str
    key: object


class DecisionPoint:
    """One decision.

    Attributes:
        path: the rule's, as `envoy/authz/allow`.
        name: what metrics, metadata and rows call it: its name in `policy.decisions`, else its path.
        dry_run: its denials are only noted.
        tier: what evaluates when nothing stands in its way.
        reads: references of the input that can change the decision, sorted; `input` alone where any can.
    """

    __slots__ = (
        "_build",
        "_cache",
        "_engine",
        "_fingerprint",
        "_known",
        "_reads",
        "_rule",
        "_rvm",
        "dry_run",
        "name",
        "path",
        "reads",
        "tier",
    )

    def __init__(
        self,
        path: str,
        engine: Engine,
        inputs: InputBuilder,
        *,
        cache: DecisionCache | None = None,
        dry_run: bool = False,
        name: str = "",
    ) -> None:
        """Prepares a decision.

        Args:
            path: the rule's.
            engine: was made for this path.
            inputs: builds whole input documents.
            cache: of the revision; None keeps nothing.
            dry_run: its denials are only noted.
            name: see the class.
        """
        self.path = path
        self.name = name or path
        self.dry_run = dry_run
        self._engine = engine
        self._rule = reference(path)
        self._reads = reads = engine.reads(path)
        self.reads = ("input",) if reads.input is None else tuple(sorted(join("input", path) for path in reads.input))
        self._build = inputs.build if reads.input is None else Projection(reads.input, inputs).build
        self._rvm = _RVM if reads.input is None else _RVM_PROJECTED
        self._known: dict[tuple[str, str], Ruling] = {}
        self._cache = cache if reads.cacheable and reads.input is not None else None
        self._fingerprint: Fingerprint | None = None
        if self._cache is not None and reads.input is not None:
            with contextlib.suppress(LookupError):
                self._fingerprint = Fingerprint(path, reads.input, inputs)
        tier = engine.tier_of(path)
        self.tier = self._rvm if tier == _RVM else tier

    async def decide(self, request: CheckRequest) -> Ruling:
        """Decide one request.

        Raises:
            RequestParseError: its path, query or body cannot be parsed.
            UndefinedDecisionError: the policy says nothing about it.
            ResultError: the policy's result has a wrong shape.
            EvaluationError: the policy failed.
        """
        cache = self._cache
        if cache is None:
            return await self._evaluate(self._build(request), BYPASS)
        key: Key | None = None if self._fingerprint is None else self._fingerprint.take(request)
        if key is not None:
            ruling = cache.find(key)
            if ruling is not None:
                return ruling
        text = self._build(request)
        if key is None or is_long(key):
            key = cache_key(self.path, text)
            ruling = cache.find(key)
            if ruling is not None:
                return ruling
        ruling = await self._evaluate(text, MISS)
        cache.keep(key, ruling)
        return ruling

    async def _evaluate(self, text: str, cache: str) -> Ruling:
        """Evaluates; a result that was seen before, as most are, is not read again."""
        evaluation = await self._engine.evaluate(self.path, text)
        result = evaluation.text, evaluation.tier
        known = self._known.get(result)
        if known is not None:
            return known
        tier = self._rvm if evaluation.tier == _RVM else evaluation.tier
        recurs = len(evaluation.text) <= _LONGEST_KNOWN
        ruling = Ruling(read_result(evaluation.value, self._rule), tier, cache, recurs)
        if recurs:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()  # results may have what a client sends: remembering them is bounded
            self._known[result] = ruling
        return ruling

    def explain(self, request: CheckRequest | None = None) -> Explanation:
        """How this decision treats a request; decides nothing, and is not for the hot path.

        Args:
            request: without one the key is None.

        Raises:
            RequestParseError: its path, query or body cannot be parsed.
        """
        reads = self._reads
        key = None
        if request is not None and reads.input is not None and reads.cacheable:
            key = readable_key(orjson.loads(self._build(request)))
        names = None if reads.input is None else self.reads
        return Explanation(self.path, self.tier, names, reads.cacheable, self._cache is not None, reads.why, key)

    def describe(self) -> dict[str, object]:
        """What people should know of it, for `/policies`."""
        said = self.explain()
        return {"tier": said.tier, "reads": list(self.reads), "cached": said.cached, "why": said.why}


class Refusal:
    """Denies every request, and says why: no policy is there to decide.

    Attributes:
        path: the decision that is not there.
        name: what metrics, metadata and rows call it.
        dry_run: its denials are only noted.
        tier: `none`.
        reads: nothing.
    """

    __slots__ = ("_ruling", "dry_run", "name", "path", "reads", "tier")

    def __init__(self, path: str, reason: str, *, dry_run: bool, name: str = "") -> None:
        self.path = path
        self.name = name or path
        self.dry_run = dry_run
        self.tier = "none"
        self.reads: tuple[str, ...] = ()
        self._ruling = Ruling(Decision(allowed=False, plain=True, reasons=(reason,)), self.tier, BYPASS)

    async def decide(self, request: CheckRequest) -> Ruling:  # noqa: ARG002 (whatever is asked)
        """The denial."""
        return self._ruling

    def describe(self) -> dict[str, object]:
        """What people should know of it, for `/policies`."""
        return {"tier": self.tier, "reads": [], "cached": False, "why": "; ".join(self._ruling.decision.reasons)}

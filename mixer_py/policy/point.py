"""One decision of a revision: a request in, its ruling out. Composes the input document, the engine and the result.

Not for: which decision a request asks for (`policy.py`), or what an error means to the caller (`policy.on_error`).
"""

from __future__ import annotations

from collections.abc import Callable

from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

from mixer_py.policy.decision import BYPASS, Decision, Ruling
from mixer_py.policy.engines.protocol import Engine
from mixer_py.policy.reference import reference
from mixer_py.policy.result import read_result


class DecisionPoint:
    """One decision.

    Attributes:
        path: the rule's, as `envoy/authz/allow`.
        name: what metrics, metadata and rows call it: its name in `policy.decisions`, else its path.
        dry_run: its denials are only noted.
        tier: what evaluates when nothing stands in its way.
    """

    __slots__ = ("_build", "_engine", "_rule", "dry_run", "name", "path", "tier")

    def __init__(
        self, path: str, engine: Engine, build: Callable[[CheckRequest], str], *, dry_run: bool, name: str = ""
    ) -> None:
        self.path = path
        self.name = name or path
        self.dry_run = dry_run
        self.tier = engine.tier
        self._engine = engine
        self._build = build
        self._rule = reference(path)

    async def decide(self, request: CheckRequest) -> Ruling:
        """Decide one request.

        Raises:
            RequestParseError: its path, query or body cannot be parsed.
            UndefinedDecisionError: the policy says nothing about it.
            ResultError: the policy's result has a wrong shape.
            EvaluationError: the policy failed.
        """
        evaluation = await self._engine.evaluate(self.path, self._build(request))
        return Ruling(read_result(evaluation.value, self._rule), evaluation.tier, BYPASS)


class Refusal:
    """Denies every request, and says why: no policy is there to decide.

    Attributes:
        path: the decision that is not there.
        name: what metrics, metadata and rows call it.
        dry_run: its denials are only noted.
        tier: `none`.
    """

    __slots__ = ("_ruling", "dry_run", "name", "path", "tier")

    def __init__(self, path: str, reason: str, *, dry_run: bool, name: str = "") -> None:
        self.path = path
        self.name = name or path
        self.dry_run = dry_run
        self.tier = "none"
        self._ruling = Ruling(Decision(allowed=False, plain=True, reasons=(reason,)), self.tier, BYPASS)

    async def decide(self, request: CheckRequest) -> Ruling:  # noqa: ARG002 (whatever is asked)
        """The denial."""
        return self._ruling

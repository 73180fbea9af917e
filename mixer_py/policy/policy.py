"""One revision of the policies: a CheckRequest in, a Decision out. Immutable, and bound to the thread that loaded it.

Not for: what a failed decision means to the caller (`policy.on_error`), dry run, or the CheckResponse.
"""

from __future__ import annotations

import hashlib
from typing import Any

from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

from mixer_py.policy.bundles import Bundle, read_bundles
from mixer_py.policy.decision import Decision
from mixer_py.policy.embedded import EmbeddedEngine, reference
from mixer_py.policy.engine import Engine, EvaluationWatch, NoWatch
from mixer_py.policy.input import InputBuilder
from mixer_py.policy.result import read_result
from mixer_py.policy.settings import PolicySettings

NO_BUNDLE = "no policy bundle is configured"
_REVISION_LENGTH = 12


class Policy:
    """The loaded policies of one configuration.

    Attributes:
        revision: 12 hexadecimal digits of a hash over modules, data and decision.
        decision: path of the decision, `envoy/authz/allow`.
        tier: what evaluates, `interpreter`; `none` without a bundle.
    """

    __slots__ = ("_build", "_data_files", "_engine", "_modules", "_rule", "_watch", "decision", "revision", "tier")

    def __init__(
        self, settings: PolicySettings, bundle: Bundle, engine: Engine | None, watch: EvaluationWatch | None = None
    ) -> None:
        self.decision = settings.decision
        self.revision = hashlib.sha256(f"{settings.decision}\0{bundle.digest}".encode()).hexdigest()[:_REVISION_LENGTH]
        self.tier = engine.tier if engine is not None else "none"
        self._modules = [module.file for module in bundle.modules]  # not the bundle: its data may be large
        self._data_files = list(bundle.data_files)
        self._engine = engine
        self._rule = reference(settings.decision)
        self._watch: EvaluationWatch = watch if watch is not None else NoWatch()
        self._build = InputBuilder(skip_request_body_parse=settings.skip_request_body_parse).build

    @classmethod
    def load(cls, settings: PolicySettings, watch: EvaluationWatch | None = None) -> Policy:
        """Read, compile and check the policies that `settings` name.

        Raises:
            PolicyLoadError: with every fault found, each with its file and line.
        """
        return cls.compile(settings, read_bundles(settings.bundles), watch)

    @classmethod
    def compile(cls, settings: PolicySettings, bundle: Bundle, watch: EvaluationWatch | None = None) -> Policy:
        """Compile and check what was read already, so that a restarted worker decides as the one before it did.

        Raises:
            PolicyLoadError: with every fault found, each with its file and line.
        """
        engine = EmbeddedEngine(bundle, settings.decision) if settings.bundles else None
        return cls(settings, bundle, engine, watch)

    def decide(self, request: CheckRequest) -> Decision:
        """Decide one request.

        Raises:
            RequestParseError: its path, query or body cannot be parsed.
            UndefinedDecisionError: the policy says nothing about it.
            ResultError: the policy's result has a wrong shape.
            EvaluationError: the policy failed.
        """
        if self._engine is None:
            return Decision(allowed=False, plain=True, reasons=(NO_BUNDLE,), rule="")
        input_json = self._build(request)
        self._watch.begin()
        try:
            value = self._engine.evaluate(input_json)
        finally:
            self._watch.end()
        return read_result(value, self._rule)

    def describe(self) -> dict[str, Any]:
        """What is loaded, for `/policies`: files, packages, decision, revision, tier, and what a builtin's error is."""
        engine = self._engine if isinstance(self._engine, EmbeddedEngine) else None
        return {
            "revision": self.revision,
            "decision": self.decision,
            "tier": self.tier,
            "modules": self._modules,
            "data": self._data_files,
            "packages": engine.packages() if engine is not None else [],
            "builtin_errors": "undefined" if engine is not None and engine.tolerates_builtin_errors else "failure",
        }

"""One revision of the policies: which decision a request asks for. Immutable, and bound to the thread that loaded it.

Not for: what a failed decision means to the caller (`policy.on_error`), dry run, or the CheckResponse.
"""

from __future__ import annotations

import hashlib
from typing import Any

from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

from mixer_py.policy.bundles.reading import Bundle, read_bundles
from mixer_py.policy.document.input import InputBuilder
from mixer_py.policy.engines.embedded import EmbeddedEngine
from mixer_py.policy.engines.protocol import Engine, EvaluationWatch, NoWatch
from mixer_py.policy.point import DecisionPoint, Refusal
from mixer_py.policy.settings import PolicySettings

NO_BUNDLE = "no policy bundle is configured"
_REVISION_LENGTH = 12


class Policy:
    """The loaded policies of one configuration.

    Attributes:
        revision: 12 hexadecimal digits of a hash over modules, data and decision.
        points: every decision that a request can ask for, the default last.
    """

    __slots__ = ("_data_files", "_default", "_engine", "_modules", "points", "revision")

    def __init__(self, settings: PolicySettings, bundle: Bundle, engine: Engine | None) -> None:
        self.revision = hashlib.sha256(f"{settings.decision}\0{bundle.digest}".encode()).hexdigest()[:_REVISION_LENGTH]
        self._modules = [module.file for module in bundle.modules]  # not the bundle: its data may be large
        self._data_files = list(bundle.data_files)
        self._engine = engine
        self._default = _make_point(settings, engine)
        self.points: tuple[DecisionPoint | Refusal, ...] = (self._default,)

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
        engine = EmbeddedEngine(bundle, [settings.decision], watch or NoWatch()) if settings.bundles else None
        return cls(settings, bundle, engine)

    def select(self, request: CheckRequest) -> DecisionPoint | Refusal:  # noqa: ARG002 (one decision so far)
        """The decision that a request asks for."""
        return self._default

    def describe(self) -> dict[str, Any]:
        """What is loaded, for `/policies`."""
        return {
            "revision": self.revision,
            "decision": self._default.path,
            "tier": self._default.tier,
            "modules": self._modules,
            "data": self._data_files,
            "packages": [],
            **(self._engine.describe() if self._engine is not None else {}),
        }


def _make_point(settings: PolicySettings, engine: Engine | None) -> DecisionPoint | Refusal:
    if engine is None:
        return Refusal(settings.decision, NO_BUNDLE, dry_run=settings.dry_run)
    build = InputBuilder(skip_request_body_parse=settings.skip_request_body_parse).build
    return DecisionPoint(settings.decision, engine, build, dry_run=settings.dry_run)

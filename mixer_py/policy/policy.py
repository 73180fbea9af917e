"""One revision of the policies: which decision a request asks for. Immutable, and bound to the thread that loaded it.

Not for: what a failed decision means to the caller (`policy.on_error`), dry run, or the CheckResponse.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

from mixer_py.instruments import Registry, SystemClock
from mixer_py.policy.bundles.bundle import Bundle
from mixer_py.policy.bundles.reading import read_policy
from mixer_py.policy.cache import DecisionCache
from mixer_py.policy.document.body import BodyParser
from mixer_py.policy.document.grpc_body import GrpcBodies
from mixer_py.policy.document.input import InputBuilder
from mixer_py.policy.engines.embedded import EmbeddedEngine
from mixer_py.policy.engines.protocol import Engine, EvaluationWatch, NoWatch
from mixer_py.policy.log_rules import LogRules, log_decisions
from mixer_py.policy.point import DecisionPoint, Refusal
from mixer_py.policy.selection import Point, Selection
from mixer_py.policy.settings import PolicySettings

NO_BUNDLE = "no policy bundle is configured"
_REVISION_LENGTH = 12


class Policy:
    """The loaded policies of one configuration.

    Attributes:
        revision: 12 hexadecimal digits of a hash over modules, data and decision.
        points: every decision that a request can ask for, the default last.
        bundle_revision: what the manifests of its bundles say: the revision of one, `bundle=revision` of several.
        inputs: builds the input documents.
        log_rules: what the policies say about the decision log; None when they say nothing.
    """

    __slots__ = (
        "_bundle_revisions",
        "_cache",
        "_data_files",
        "_default",
        "_engine",
        "_missing",
        "_modules",
        "_selection",
        "bundle_revision",
        "inputs",
        "log_rules",
        "points",
        "revision",
    )

    def __init__(
        self, settings: PolicySettings, bundle: Bundle, engine: Engine | None, registry: Registry | None = None
    ) -> None:
        self.revision = _revision(settings, bundle)
        self._modules = [module.file for module in bundle.modules]  # not the bundle: its data may be large
        self._data_files = list(bundle.data_files)
        self._bundle_revisions = dict(bundle.revisions)
        self.bundle_revision = _joined(bundle.revisions)
        self._missing = bundle.missing
        self._engine = engine
        bodies = BodyParser(_grpc_bodies(settings, bundle))
        self.inputs = InputBuilder(
            skip_request_body_parse=settings.skip_request_body_parse,
            bodies=bodies,
            protojson=settings.attribute_values == "protojson",
        )
        log_paths = log_decisions(bundle)
        self.log_rules = LogRules(engine, log_paths) if log_paths and engine is not None else None
        cache = settings.cache
        self._cache = (
            DecisionCache(cache, registry or Registry(), SystemClock()) if cache.entries and cache.ttl else None
        )
        self._default = self._make_point(settings, settings.decision)
        named = [self._make_point(settings, one.path, name=one.name, dry_run=one.dry_run) for one in settings.decisions]
        self._selection = (
            Selection(settings.decisions, named, self._default, dry_run=settings.dry_run) if named else None
        )
        self.points: tuple[DecisionPoint | Refusal, ...] = (*named, self._default)

    @classmethod
    def load(
        cls, settings: PolicySettings, watch: EvaluationWatch | None = None, registry: Registry | None = None
    ) -> Policy:
        """Read, compile and check the policies that `settings` name.

        Raises:
            PolicyLoadError: with every fault found, each with its file and line.
        """
        return cls.compile(settings, read_policy(settings), watch, registry)

    @classmethod
    def compile(
        cls,
        settings: PolicySettings,
        bundle: Bundle,
        watch: EvaluationWatch | None = None,
        registry: Registry | None = None,
    ) -> Policy:
        """Compile and check what was read already, so that a restarted worker decides as the one before it did.

        Raises:
            PolicyLoadError: with every fault found, each with its file and line.
        """
        decisions = tuple(
            dict.fromkeys((settings.decision, *(one.path for one in settings.decisions), *log_decisions(bundle)))
        )
        return cls(settings, bundle, _make_engine(settings, bundle, decisions, watch, registry), registry)

    def select(self, request: CheckRequest) -> Point:
        """The decision that a request asks for; a refusal where that cannot be told."""
        selection = self._selection
        return self._default if selection is None else selection.select(request)

    def _make_point(
        self, settings: PolicySettings, path: str, *, name: str = "", dry_run: bool = False
    ) -> DecisionPoint | Refusal:
        dry_run = dry_run or settings.dry_run
        if self._engine is None:
            reason = f"{self._missing[0]} has not been fetched yet" if self._missing else NO_BUNDLE
            return Refusal(path, reason, dry_run=dry_run, name=name)
        return DecisionPoint(path, self._engine, self.inputs, cache=self._cache, dry_run=dry_run, name=name)

    def open(self) -> None:
        """Begins what the engine does besides evaluations; called in the event loop once the policy is in use."""
        if self._engine is not None:
            self._engine.open()

    async def close(self) -> None:
        """Gives back what the engine holds, once the evaluations that run have ended."""
        if self._engine is not None:
            await self._engine.close()

    def describe(self) -> dict[str, Any]:
        """What is loaded, for `/policies`."""
        return {
            "revision": self.revision,
            "decision": self._default.path,
            "decisions": [
                {"name": point.name, "path": point.path, "dry_run": point.dry_run, **point.describe()}
                for point in self.points[:-1]
            ],
            **self._default.describe(),
            "bundle_revisions": self._bundle_revisions,
            "not_fetched": list(self._missing),
            "modules": self._modules,
            "data": self._data_files,
            "packages": [],
            **(self._engine.describe() if self._engine is not None else {}),
        }


async def load_engine(settings: PolicySettings) -> None:
    """Imports what few processes need to evaluate, an HTTP client, while calls go on: it takes 300 ms of CPU."""
    if settings.engine == "opa":
        await asyncio.to_thread(importlib.import_module, "mixer_py.policy.engines.opa")


def _make_engine(
    settings: PolicySettings,
    bundle: Bundle,
    decisions: Sequence[str],
    watch: EvaluationWatch | None,
    registry: Registry | None,
) -> Engine | None:
    """What evaluates; None where there is nothing that could."""
    if settings.engine == "opa":
        from mixer_py.policy.engines.opa import OpaEngine  # noqa: PLC0415 (see load_engine)

        return OpaEngine(settings.opa, registry or Registry())
    if not settings.bundles or bundle.missing:
        return None
    return EmbeddedEngine(bundle, decisions, watch or NoWatch(), registry)


def _grpc_bodies(settings: PolicySettings, bundle: Bundle) -> GrpcBodies | None:
    return GrpcBodies(bundle.proto_descriptor, settings.proto_descriptor) if settings.proto_descriptor else None


def _joined(revisions: Mapping[str, str]) -> str:
    if len(revisions) == 1:
        return next(iter(revisions.values()))
    return "; ".join(f"{bundle}={revision}" for bundle, revision in sorted(revisions.items()))


def _revision(settings: PolicySettings, bundle: Bundle) -> str:
    """Depends on everything that a decision depends on, and on nothing else."""
    parts = [settings.decision, *(one.model_dump_json() for one in settings.decisions), bundle.digest]
    if settings.engine == "opa":
        parts.append(settings.opa.url)
    if bundle.proto_descriptor:
        parts.append(hashlib.sha256(bundle.proto_descriptor).hexdigest())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_REVISION_LENGTH]

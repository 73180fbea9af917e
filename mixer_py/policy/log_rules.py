"""The policies' own say over the decision log: `data.system.log.mask` and `data.system.log.drop`, as in OPA.

They are evaluated as decisions of the engine, over decision events instead of requests.
Not for: what the masks mean (`telemetry/masking_rules.py`).
"""

from __future__ import annotations

import re
from typing import Final

from mixer_py.errors import UndefinedDecisionError
from mixer_py.policy.bundles.reading import Bundle
from mixer_py.policy.decision import Decision, Pairs, QuotaAsked
from mixer_py.policy.engines.protocol import Engine

MASK: Final = "system/log/mask"
DROP: Final = "system/log/drop"

_LOG: Final = ("system", "log")
_PACKAGE: Final = re.compile(r"^\s*package\s+system\b", re.MULTILINE)


def log_decisions(bundle: Bundle) -> tuple[str, ...]:
    """Paths of the rules about the log that the bundle may define; none where nothing of it is in `system`.

    Opens no data document, as they may be large: one that may reach `data.system.log` counts as if it did.
    """
    in_modules = any(_PACKAGE.search(module.text) for module in bundle.modules)
    in_data = "system" in bundle.data or any(document.may_reach(_LOG) for document in bundle.documents)
    return (MASK, DROP) if in_modules or in_data else ()


class LogRules:
    """Evaluates the rules of one revision. Use it only from the thread that made its engine."""

    __slots__ = ("_engine", "_paths")

    def __init__(self, engine: Engine, paths: tuple[str, ...]) -> None:
        """Takes an engine that was made for these paths, those that `log_decisions` gave."""
        self._engine = engine
        self._paths = paths

    async def drops(self, event: str) -> bool:
        """Whether `drop` is true for a decision event.

        Raises:
            EvaluationError: the rule failed.
            RequestParseError: the engine cannot read the event.
        """
        return await self._value(DROP, event, None) is True

    async def masks(self, event: str) -> object:
        """The value of `mask` for a decision event, an empty list where it is undefined.

        Raises:
            EvaluationError: the rule failed.
            RequestParseError: the engine cannot read the event.
        """
        return await self._value(MASK, event, [])

    async def _value(self, path: str, event: str, default: object) -> object:
        if path not in self._paths:
            return default
        try:
            return (await self._engine.evaluate(path, event)).value
        except UndefinedDecisionError:
            return default


def result_of(decision: object) -> object:
    """The value that a decision was read from, as far as mixer kept it, for an event's `result`."""
    if not isinstance(decision, Decision):
        return None
    if decision.plain:
        return decision.allowed
    fields: dict[str, object] = {
        "allowed": decision.allowed,
        "headers": _by_name(decision.headers),
        "response_headers_to_add": _by_name(decision.response_headers_to_add),
        "request_headers_to_remove": list(decision.request_headers_to_remove),
        "query_parameters_to_set": _by_name(decision.query_parameters_to_set),
        "query_parameters_to_remove": list(decision.query_parameters_to_remove),
        "body": decision.body,
        "dynamic_metadata": dict(decision.dynamic_metadata),
        "reasons": list(decision.reasons),
        "quotas": [_quota(asked) for asked in decision.quotas],
    }
    if not decision.allowed:
        fields["http_status"] = decision.http_status
    return {name: value for name, value in fields.items() if value not in ("", {}, [])}


def _by_name(pairs: Pairs) -> dict[str, list[str]]:
    """Names with their values; always lists, as a policy may write them."""
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values


def _quota(asked: QuotaAsked) -> dict[str, object]:
    key = None if asked.key is None else list(asked.key)
    fields = {"name": asked.name, "key": key, "hits": asked.hits}
    return {name: value for name, value in fields.items() if value is not None}

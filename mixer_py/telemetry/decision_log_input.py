"""What a row of `decisions` keeps of a check's input: the document built again, masked, and cut to its bound.

Done when rows are written, never while a check is answered. Whatever goes wrong here costs the input, never the row,
and nothing is written unmasked: what was left out, and why, is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import orjson
import structlog
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

from mixer_py.attributes.bag import READERS
from mixer_py.errors import MixerError, RequestParseError
from mixer_py.instruments import Registry
from mixer_py.telemetry.decision_log_settings import DecisionLogSettings
from mixer_py.telemetry.decision_record import DecisionRecord, Kept
from mixer_py.telemetry.json_places import replaced
from mixer_py.telemetry.masking import HTTP, MASKED, Mask
from mixer_py.telemetry.masking_rules import Masking, apply_rules, read_rules

JOINT: Final = "; "
"""Between the paths in the columns `erased` and `masked`, as between reasons."""

_BODIES: Final = ((*HTTP, "body"), (*HTTP, "rawBody"), ("parsed_body",))
_url_path = READERS["request.url_path"]


class LogRules(Protocol):
    """`data.system.log` of the policies in force."""

    async def drops(self, event: str) -> bool:
        """Whether `drop` holds for a decision event, as JSON text. Raises `MixerError`."""

    async def masks(self, event: str) -> object:
        """The value of `mask` for it, an empty list where it is undefined. Raises `MixerError`."""


@dataclass(frozen=True, slots=True)
class InputSources:
    """Where inputs come from, in one snapshot.

    Attributes:
        document: the input document that the policy was given. Raises `RequestParseError` where it was given none.
        attributes: what of it is there without any parsing.
        result: a record's `result` as OPA's decision log shows it.
        rules: `system.log` of the policies; None where they have none.
    """

    document: Callable[[CheckRequest], Mapping[str, Any]]
    attributes: Callable[[CheckRequest], Mapping[str, Any]]
    result: Callable[[Any], object]
    rules: LogRules | None = None


class InputKeeper:
    """Prepares what rows show, by the settings and policies of one snapshot."""

    def __init__(self, settings: DecisionLogSettings, sources: InputSources, registry: Registry) -> None:
        """Compiles the masks.

        Args:
            settings: what is kept and what is masked.
            sources: the documents and the rules.
            registry: gets `mixer_decision_inputs_left_out_total`.
        """
        self._settings = settings
        self._sources = sources
        self._mask = Mask(settings.mask)
        self._left_out = registry.counter(
            "mixer_decision_inputs_left_out_total", "Decisions that are kept without their input.", ("reason",)
        )
        self._told: set[str] = set()
        self._log = structlog.get_logger("telemetry").bind(table="decisions")

    async def keep(self, record: DecisionRecord) -> Kept | None:
        """What the row of a decision shows; None when the policies want no row. Never raises."""
        try:
            return await self._keep(record)
        except MixerError as error:
            return self._without_input(record, "system_log", error)
        except Exception as error:  # noqa: BLE001 (also a nesting too deep: the row must not be lost, nor shown bare)
            return self._without_input(record, "failed", error)

    async def _keep(self, record: DecisionRecord) -> Kept | None:
        rules, settings = self._sources.rules, self._settings
        if rules is None and not settings.input and not settings.mask.paths:
            return self._texts(record, self._mask.text(_path_of(record)))
        document = self._document(record.request)
        masking = Masking(document, (), ())
        if rules is not None:
            event = self._event(record, document)
            if await rules.drops(event):
                return None
            masking = apply_rules(read_rules(await rules.masks(event)), document)
        return self._shown(record, masking)

    def _shown(self, record: DecisionRecord, masking: Masking) -> Kept:
        kept, masked, erased = masking.input, list(masking.masked), list(masking.erased)
        http = record.request.attributes.request.http
        if len(http.body) + len(http.raw_body) > self._settings.max_input:  # before time is spent on masking them
            kept = _without_bodies(kept, erased)
        if isinstance(kept, dict):  # an upsert of /input as a whole may have made it anything
            kept, found = self._mask.apply(kept)
            masked += found
        reasons = None if any(path.startswith("/result") for path in (*masking.erased, *masking.masked)) else ""
        text = "" if kept is None or not self._settings.input else self._bounded(kept, erased)
        url_path = _path_in(kept, _path_of(record))
        return self._texts(record, url_path, text, JOINT.join(erased), JOINT.join(masked), hide_reasons=reasons is None)

    def _bounded(self, document: Any, erased: list[str]) -> str:  # noqa: ANN401 (JSON)
        """The document as text, within its bound: first the bodies go, then all of it."""
        text = orjson.dumps(document)
        if len(text) > self._settings.max_input:
            text = orjson.dumps(_without_bodies(document, erased))
        if len(text) > self._settings.max_input:
            self._left_out.labels("size").add()
            erased.append("/input")
            return ""
        return text.decode()

    def _document(self, request: CheckRequest) -> Mapping[str, Any]:
        try:
            return self._sources.document(request)
        except RequestParseError:  # that is why it was denied
            return self._sources.attributes(request)

    def _event(self, record: DecisionRecord, document: Mapping[str, Any]) -> str:
        """The decision as OPA shows it to `system.log` (its EventV1): unmasked, as rules may decide by any value."""
        event: dict[str, object] = {
            "labels": {},
            "decision_id": record.decision_id,
            "revision": record.revision,
            "path": record.path or record.decision,
            "input": document,
            "timestamp": datetime.fromtimestamp(record.started / 1e9, UTC).isoformat().replace("+00:00", "Z"),
        }
        if record.result is None:  # the policy failed, or was never asked
            event["error"] = {"message": record.error or record.reasons}
        else:
            event["result"] = self._sources.result(record.result)
        return orjson.dumps(event).decode()

    def _without_input(self, record: DecisionRecord, reason: str, error: Exception) -> Kept:
        self._left_out.labels(reason).add()
        if reason not in self._told:  # the counter tells how often; a line for every decision would tell no more
            self._told.add(reason)
            self._log.error(
                "decisions are kept without their input", way_out="see data.system.log, and decision_log.max_input",
                decision_id=record.decision_id, reason=reason,
                error=str(error) if isinstance(error, MixerError) else type(error).__name__,  # others may quote it
            )  # fmt: skip
        return self._texts(record, MASKED, erased="/input", hide_reasons=True)

    def _texts(
        self, record: DecisionRecord, url_path: str, text: str = "", erased: str = "", masked: str = "", *,
        hide_reasons: bool = False,
    ) -> Kept:  # fmt: skip
        reasons = MASKED if hide_reasons and record.reasons else self._mask.text(record.reasons)
        shadow = record.shadow.reasons
        shadow = MASKED if hide_reasons and shadow else self._mask.text(shadow)
        return Kept(text, erased, masked, url_path, reasons, self._mask.text(record.error), shadow)


def _without_bodies(document: Any, erased: list[str]) -> Any:  # noqa: ANN401 (JSON)
    """The document with null in place of its bodies, as far as they are there."""
    for body in _BODIES:
        found: list[str] = []
        new = replaced(document, body, None, "/input", found)
        erased += [path for path in found if path not in erased]
        document = new
    return document


def _path_of(record: DecisionRecord) -> str:
    return str(_url_path(record.request.attributes) or "")


def _path_in(document: Any, path: str) -> str:  # noqa: ANN401 (JSON)
    """The path, without its query, as it is left in a document; the mask where a path was, and is no more."""
    for segment in (*HTTP, "path"):
        document = document.get(segment) if isinstance(document, dict) else None
    if isinstance(document, str):
        return document.partition("#")[0].partition("?")[0]
    return MASKED if path else ""

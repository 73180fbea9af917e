"""Remember every decision: one object kept at the time of the check, columns only when many are written.

Envoy's access logs may be lost; these rows do not depend on them. Bounded: a flush hands the rows to the recorder,
whose queue has the bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import structlog
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

from mixer_py.attributes.bag import READERS
from mixer_py.telemetry.columns import DECISIONS

_FLUSH_RECORDS = 1000
_FLUSH_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One check as it is remembered.

    Attributes:
        request: what was asked.
        started: wall clock, nanoseconds since the epoch.
        duration: seconds that the check took.
        verdict: `allow`, `deny` or `error`.
        decision_id: the join key.
        decision: path of the decision.
        rule: which rule decided.
        reasons: why, joined by `; `.
        error: what went wrong, when the verdict is `error`.
        revision: of the snapshot that decided.
        http_status: of a denial; 0 when the request was let through or the call failed.
        tier: which engine tier decided.
        cache: `hit`, `miss` or `bypass`.
        dry_run: the verdict was only noted.
    """

    request: CheckRequest
    started: int
    duration: float
    verdict: str
    decision_id: str
    decision: str
    rule: str
    reasons: str
    error: str
    revision: str
    http_status: int
    tier: str
    cache: str
    dry_run: bool


class RowTaker(Protocol):
    """Where the rows go."""

    def put(self, table: str, batch: pa.RecordBatch) -> None:
        """Takes rows; never raises, never waits."""

    def count_dropped(self, table: str, rows: int, reason: str) -> None:
        """Books rows that never became any."""


class DecisionLog:
    """Gathers records and hands them on as columns."""

    def __init__(self, rows: RowTaker) -> None:
        self._rows = rows
        self._records: list[DecisionRecord] = []
        self._timer: asyncio.TimerHandle | None = None
        self._log = structlog.get_logger("telemetry").bind(table=DECISIONS.name)

    def record(self, record: DecisionRecord) -> None:
        """Keeps one decision."""
        self._records.append(record)
        if len(self._records) >= _FLUSH_RECORDS:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Hands on what is gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._records:
            records, self._records = self._records, []
            self._hand_on(records)

    def _hand_on(self, records: Sequence[DecisionRecord]) -> None:
        """A record that fits no row costs itself alone, and never the check that it came with."""
        try:
            batch = to_batch(records)
        except (TypeError, ValueError, ArithmeticError) as error:  # Arrow's own are among them
            middle = len(records) // 2
            if middle:
                self._hand_on(records[:middle])
                self._hand_on(records[middle:])
            else:
                self._log.error("a decision fits no row", decision_id=records[0].decision_id, error=repr(error))
                self._rows.count_dropped(DECISIONS.name, 1, "malformed")
        else:
            self._rows.put(DECISIONS.name, batch)


def to_batch(records: Sequence[DecisionRecord]) -> pa.RecordBatch:
    """The records as rows of `decisions`."""
    arrays = [
        pa.array([_READERS[column.name](record) for record in records], column.kind.arrow)
        for column in DECISIONS.columns
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=DECISIONS.schema)


def _attribute(name: str) -> Callable[[DecisionRecord], Any]:
    read = READERS[name]
    return lambda record: read(record.request.attributes) or ""


_READERS: dict[str, Callable[[DecisionRecord], Any]] = {
    "timestamp": lambda record: record.started,
    "decision_id": lambda record: record.decision_id,
    "verdict": lambda record: record.verdict,
    "decision": lambda record: record.decision,
    "rule": lambda record: record.rule,
    "reasons": lambda record: record.reasons,
    "error": lambda record: record.error,
    "policy_revision": lambda record: record.revision,
    "http_status": lambda record: record.http_status,
    "quota_name": lambda _: "",
    "quota_remaining": lambda _: None,
    "tier": lambda record: record.tier,
    "cache": lambda record: record.cache,
    "dry_run": lambda record: record.dry_run,
    "duration_us": lambda record: record.duration * 1e6,
} | {
    name.replace(".", "_"): _attribute(name)
    for name in (
        "request.id",
        "request.method",
        "request.host",
        "request.url_path",
        "source.ip",
        "source.principal",
        "source.namespace",
        "destination.ip",
        "destination.principal",
        "destination.namespace",
    )
}
"""How each column of `decisions` is read; an attribute's as the vocabulary says."""

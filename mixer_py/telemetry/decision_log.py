"""Remember every decision: one object kept at the time of the check, columns only when many are written.

Envoy's access logs may be lost; these rows do not depend on them. Bounded: a record waits here for a moment, then as
a row in the recorder's queue, and both count against the same bound. What happens when that is reached is a setting.
Not for: what a row shows of the input (`decision_log_input.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol

import pyarrow as pa
import structlog

from mixer_py.attributes.bag import READERS
from mixer_py.instruments import Clock, Registry
from mixer_py.telemetry.booking import LOG_FULL, MALFORMED, POLICY, QUEUE_FULL, SAMPLED, SHUTDOWN, gathered_rows
from mixer_py.telemetry.decision_columns import DECISIONS
from mixer_py.telemetry.decision_log_settings import DecisionLogSettings
from mixer_py.telemetry.decision_record import DecisionRecord, Kept
from mixer_py.telemetry.row_masking import RowMask, Step

_FLUSH_RECORDS: Final = 1000
_FLUSH_SECONDS: Final = 0.25
_BATCH_RECORDS: Final = 250
_SLICE_SECONDS: Final = 0.001
"""How long rows are prepared before checks that wait get their turn."""
_SLICE_RECORDS: Final = 20
_MOST_RECORDS: Final = 20_000
_MOST_BYTES: Final = 64 << 20
"""Bounds on what waits here, should preparing fall behind."""
_LOOK_AGAIN_SECONDS: Final = 0.01


class Keeper(Protocol):
    """What prepares a record to be written, by the settings and policies of one snapshot."""

    async def keep(self, record: DecisionRecord) -> Kept | None:
        """What its row shows; None when the policies want no row. Never raises."""


class RowTaker(Protocol):
    """Where the rows go."""

    def put(self, table: str, batch: pa.RecordBatch, *, promised: bool = False) -> None:
        """Takes rows; never raises, never waits. Rows that were promised room are not dropped for want of it."""

    def count_dropped(self, table: str, rows: int, reason: str) -> None:
        """Books rows that never became any."""

    def has_room(self, table: str, rows: int, size: int) -> bool:
        """Whether more than so many rows, of so many bytes, could still be put."""

    async def freed(self, table: str) -> None:
        """Waits until rows were written."""


_UNMASKED: Final[Mapping[str, Step]] = MappingProxyType({})

Entry = tuple[DecisionRecord, Keeper, int]
"""A record, what prepares it, and the bytes of its request."""


class DecisionLog:
    """Gathers records and hands them on as columns."""

    def __init__(
        self, rows: RowTaker, settings: DecisionLogSettings, keeper: Keeper, registry: Registry, clock: Clock,
        mask: RowMask | None = None,
    ) -> None:  # fmt: skip
        """Starts with one snapshot's settings; `activate` replaces them.

        Args:
            rows: takes the rows.
            settings: sampling, and what a full log means.
            keeper: prepares rows.
            registry: gets `mixer_decision_log_full_total` and `mixer_gathered_rows`.
            clock: for waiting.
            mask: what it says of columns holds here too; texts were masked by the keeper.
        """
        self._rows = rows
        self._clock = clock
        self._waiting: deque[Entry] = deque()
        self._bytes = 0
        self._in_hand = 0
        self._held = 0
        self._held_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._work: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("telemetry").bind(table=DECISIONS.name)
        full = registry.counter(
            "mixer_decision_log_full_total", "Checks that found no room in the decision log.", ("outcome",)
        )
        self._gathered = gathered_rows(registry, DECISIONS.name)
        self._outcomes = {name: full.labels(name) for name in ("waited", "dropped", "refused")}
        self.activate(settings, keeper, mask)

    def activate(self, settings: DecisionLogSettings, keeper: Keeper, mask: RowMask | None = None) -> None:
        """Keeps the records that come from now on by other settings."""
        steps = {column.name: mask.step(column) for column in DECISIONS.columns} if mask is not None else {}
        self._steps = {name: step for name, step in steps.items() if step is not None}
        self._settings = settings
        self._keeper = keeper
        self._promises = settings.when_full != "drop"

    def record(self, record: DecisionRecord) -> None:
        """Keeps one decision, unless it is not in the sample or there is no room."""
        if self._is_left_out(record):
            return
        if self._promises and not self._has_room():
            self._rows.count_dropped(DECISIONS.name, 1, LOG_FULL)
            return
        self._keep(record)

    def hold(self, size: int) -> bool:
        """Keeps room for a record that comes later by `record_held`, for a request of so many bytes.

        Returns:
            False when there is none and its row is booked as dropped; `record_held` is then not called.
        """
        if self._promises and not self._has_room():
            self._rows.count_dropped(DECISIONS.name, 1, LOG_FULL)
            return False
        self._held += 1
        self._held_bytes += size
        return True

    def record_held(self, record: DecisionRecord, size: int) -> None:
        """Keeps one decision for which there is room since `hold`, unless it is not in the sample."""
        self._held -= 1
        self._held_bytes -= size
        if not self._is_left_out(record):
            self._keep(record)

    def _is_left_out(self, record: DecisionRecord) -> bool:
        """Whether it is an allow that is not in the sample; one that a candidate does not share always is."""
        if record.verdict != "allow" or record.differs or self._samples(record.decision_id):
            return False
        self._rows.count_dropped(DECISIONS.name, 1, SAMPLED)
        return True

    def _keep(self, record: DecisionRecord) -> None:
        size = record.request.ByteSize()
        self._waiting.append((record, self._keeper, size))
        self._bytes += size
        if not self._promises:
            self._drop_oldest()
        self._show()
        if len(self._waiting) >= _FLUSH_RECORDS:
            self._begin()
        elif self._timer is None and self._work is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self._begin)

    def is_full(self, verdict: str, decision_id: str) -> bool:
        """Whether this decision would be kept if there were room, and it matters that there is none."""
        return self._promises and (verdict != "allow" or self._samples(decision_id)) and not self._has_room()

    async def find_room(self, *, lets_through: bool) -> bool:
        """Waits for room as the settings say.

        Args:
            lets_through: the answer lets the request through.

        Returns:
            True when the answer may be given, if need be without its row; False when the request must be denied.
        """
        if self._settings.when_full == "deny":
            self._outcomes["refused" if lets_through else "dropped"].add()
            return not lets_through
        end = self._clock.monotonic() + self._settings.block
        while not self._has_room():
            left = end - self._clock.monotonic()
            if left <= 0:
                self._outcomes["dropped"].add()
                return True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, _LOOK_AGAIN_SECONDS)):
                    await self._rows.freed(DECISIONS.name)
        self._outcomes["waited"].add()
        return True

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 (what is left at the end is a normal outcome)
        """Hands on what is gathered; what takes longer than `timeout` seconds is booked as dropped."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._waiting or self._in_hand:
                    self._begin()
                    if self._work is not None:
                        await asyncio.shield(self._work)
        left = len(self._waiting) + self._in_hand
        if self._work is not None:
            self._work.cancel()
        if left:
            self._waiting.clear()
            self._in_hand = 0
            self._rows.count_dropped(DECISIONS.name, left, SHUTDOWN)
            self._show()

    def _show(self) -> None:
        self._gathered.set(len(self._waiting) + self._in_hand)

    def _samples(self, decision_id: str) -> bool:
        """Whether an allow belongs to the sample: by its id, so that it does or does not wherever one looks."""
        share = self._settings.sample
        return share >= 1.0 or zlib.crc32(decision_id.encode()) < share * (1 << 32)

    def _has_room(self) -> bool:
        rows = len(self._waiting) + self._in_hand + self._held
        size = self._bytes + self._held_bytes
        return rows < _MOST_RECORDS and size < _MOST_BYTES and self._rows.has_room(DECISIONS.name, rows, size)

    def _drop_oldest(self) -> None:
        while len(self._waiting) > _MOST_RECORDS or (self._bytes > _MOST_BYTES and len(self._waiting) > 1):
            self._bytes -= self._waiting.popleft()[2]
            self._rows.count_dropped(DECISIONS.name, 1, QUEUE_FULL)

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._work is None and self._waiting:
            self._work = asyncio.get_running_loop().create_task(self._prepare_all(len(self._waiting)))

    async def _prepare_all(self, count: int) -> None:
        """Turns what waits into rows, a batch at a time; what comes meanwhile waits for company."""
        try:
            while count > 0 and self._waiting:
                size = min(count, _BATCH_RECORDS)
                count -= size
                batch = await self._prepare(size)
                self._in_hand = 0
                if batch:
                    self._hand_on(batch)
                self._show()  # not before, or a worker that is killed here would be known to have held less
        finally:
            self._work = None
        if len(self._waiting) >= _FLUSH_RECORDS:
            self._begin()
        elif self._waiting:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self._begin)

    async def _prepare(self, count: int) -> list[tuple[DecisionRecord, Kept]]:
        """The next records with what their rows show; checks get their turn in between."""
        batch: list[tuple[DecisionRecord, Kept]] = []
        begun, done = self._clock.monotonic(), 0
        while self._waiting and count:
            count -= 1
            record, keeper, size = self._waiting.popleft()
            self._bytes -= size
            self._in_hand += 1
            kept = await keeper.keep(record)
            if kept is None:
                self._in_hand -= 1
                self._rows.count_dropped(DECISIONS.name, 1, POLICY)
            else:
                batch.append((record, kept))
            done += 1
            if done >= _SLICE_RECORDS or self._clock.monotonic() - begun > _SLICE_SECONDS:
                await asyncio.sleep(0)
                begun, done = self._clock.monotonic(), 0
        return batch

    def _hand_on(self, records: Sequence[tuple[DecisionRecord, Kept]]) -> None:
        """A record that fits no row costs itself alone, and never the check that it came with."""
        try:
            batch = to_batch(records, self._steps)
        except (TypeError, ValueError, ArithmeticError) as error:  # Arrow's own are among them
            middle = len(records) // 2
            if middle:
                self._hand_on(records[:middle])
                self._hand_on(records[middle:])
            else:
                self._log.error(
                    "a decision fits no row",
                    way_out="report it with this line",
                    decision_id=records[0][0].decision_id,
                    error=repr(error),
                )
                self._rows.count_dropped(DECISIONS.name, 1, MALFORMED)
        else:
            self._rows.put(DECISIONS.name, batch, promised=self._promises)


def to_batch(records: Sequence[tuple[DecisionRecord, Kept]], steps: Mapping[str, Step] = _UNMASKED) -> pa.RecordBatch:
    """The records as rows of `decisions`, their columns masked by the steps of these names."""
    arrays = []
    for column in DECISIONS.columns:
        read = _READERS.get(column.name)
        if read is not None:
            values: list[Any] = [read(record) for record, _ in records]
        else:
            values = [_KEPT[column.name](kept) for _, kept in records]
        array, step = pa.array(values, column.kind.arrow), steps.get(column.name)
        arrays.append(array if step is None else step(array))
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
    "policy_revision": lambda record: record.revision,
    "bundle_revision": lambda record: record.bundle_revision,
    "http_status": lambda record: record.http_status,
    "quota_name": lambda record: record.quota_name,
    "quota_code": lambda record: record.quota_code,
    "quota_remaining": lambda record: record.quota_remaining,
    "tier": lambda record: record.tier,
    "reads": lambda record: record.reads,
    "cache": lambda record: record.cache,
    "dry_run": lambda record: record.dry_run,
    "duration_us": lambda record: record.duration * 1e6,
    "shadow_verdict": lambda record: record.shadow.verdict,
    "shadow_rule": lambda record: record.shadow.rule,
    "shadow_revision": lambda record: record.shadow.revision,
} | {
    name.replace(".", "_"): _attribute(name)
    for name in (
        "request.id",
        "request.method",
        "request.host",
        "source.ip",
        "source.principal",
        "source.namespace",
        "destination.ip",
        "destination.principal",
        "destination.namespace",
    )
}
"""How each column of `decisions` is read; an attribute's as the vocabulary says."""

_KEPT: dict[str, Callable[[Kept], str]] = {
    "reasons": lambda kept: kept.reasons,
    "error": lambda kept: kept.error,
    "shadow_reasons": lambda kept: kept.shadow_reasons,
    "request_url_path": lambda kept: kept.url_path,
    "input": lambda kept: kept.input,
    "erased": lambda kept: kept.erased,
    "masked": lambda kept: kept.masked,
}
"""And those that are masked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage

from mixer_py.calls import Call
from mixer_py.instruments import Registry, SystemClock
from mixer_py.services.access_log import EMPTY_RESPONSE, AccessLogService
from mixer_py.telemetry.access_log.decoding import ANONYMOUS, AccessLogDecoder
from mixer_py.telemetry.grouping import Alike


class Rows:
    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []
        self.connections: list[dict[str, object]] = []
        self.put_together: list[int] = []
        self.dropped: list[tuple[str, int, str]] = []
        self.has_room = asyncio.Event()
        self.has_room.set()

    def put(self, table: str, batch: pa.RecordBatch) -> None:
        rows = {"requests": self.rows, "connections": self.connections}[table]
        rows += batch.drop_columns(["timestamp"]).to_pylist()
        self.put_together.append(len(batch))

    async def kept(self, table: str) -> None: ...

    async def room(self, table: str) -> bool:
        waits = not self.has_room.is_set()
        await self.has_room.wait()
        return waits

    def count_dropped(self, table: str, rows: int, reason: str) -> None:
        self.dropped.append((table, rows, reason))


class Counted:
    def __init__(self) -> None:
        self.rows = self.connections = 0

    def count_requests(
        self, rows: pa.RecordBatch, alike: Alike | None = None, for_metrics: pa.RecordBatch | None = None
    ) -> None:
        assert for_metrics is None
        assert alike is not None
        assert len(alike.groups) == len(rows)
        self.rows += len(rows)

    def count_connections(self, rows: pa.RecordBatch, opened: npt.NDArray[np.bool_]) -> None:
        assert len(opened) == len(rows)
        self.connections += len(rows)


def make() -> tuple[AccessLogService, Rows, Counted]:
    rows, counted = Rows(), Counted()
    return AccessLogService(AccessLogDecoder(), [counted], rows, Registry(), SystemClock()), rows, counted


def message(*paths: str, node: str = "") -> bytes:
    sent = StreamAccessLogsMessage()
    if node:
        sent.identifier.log_name = "mesh"
        sent.identifier.node.id = node
        sent.identifier.node.cluster = f"cluster-of-{node}"
    for path in paths:
        sent.http_logs.log_entry.add().request.path = path
    return sent.SerializeToString()


async def stream_of(*messages: bytes, then: asyncio.Event | None = None) -> AsyncIterator[bytes]:
    for one in messages:
        yield one
    if then is not None:
        await then.wait()


async def test_the_identity_of_the_first_message_holds_for_its_stream_only() -> None:
    service, rows, counted = make()
    answers = await asyncio.gather(
        service.stream(stream_of(message("/1", node="a"), message("/2")), Call()),
        service.stream(stream_of(message("/3", node="b"), message("/4")), Call()),
        service.stream(stream_of(message("/5")), Call()),
    )
    service.flush()
    assert answers == [EMPTY_RESPONSE] * 3
    who = {row["request_url_path"]: row["context_reporter_uid"] for row in rows.rows}
    assert who == {"/1": "a", "/2": "a", "/3": "b", "/4": "b", "/5": ""}
    assert counted.rows == 5


async def test_what_is_gathered_is_decoded_after_a_while_without_another_message() -> None:
    service, rows, _ = make()
    end = asyncio.Event()
    reading = asyncio.create_task(service.stream(stream_of(message("/1"), then=end), Call()))
    for _ in range(500):
        if rows.rows:
            break
        await asyncio.sleep(0.01)
    assert [row["request_url_path"] for row in rows.rows] == ["/1"]
    end.set()
    await reading


async def begun(service: AccessLogService, *paths: str) -> None:
    """Takes messages, and waits until the first step of their slice is taken, and no more than that."""
    for path in paths:
        service._take(message(path), ANONYMOUS)
    while service._begun is None:
        await asyncio.sleep(0)


async def test_others_have_their_turn_between_the_steps_of_a_slice() -> None:
    service, rows, _ = make()
    await begun(service, "/1")
    turns = 0
    while not rows.rows:
        turns += 1
        await asyncio.sleep(0)
    assert turns > 1


async def test_a_slice_that_is_full_is_worked_on_in_steps_one_for_each_message_that_comes_meanwhile() -> None:
    service, rows, _ = make()
    seen = []

    async def stream() -> AsyncIterator[bytes]:
        for index in range(2000):
            yield message("/" + "x" * 600_000 if index == 0 else "/")
            seen.append(len(rows.rows))  # the loop does not turn between them, so that no timer takes a step

    await service.stream(stream(), Call())
    assert seen[0] == 0, "the first step is not all of it"
    assert seen[-1] == 1
    assert rows.put_together == [1, 1999]


async def test_what_is_begun_is_finished_before_anything_else_is_decoded() -> None:
    service, rows, counted = make()
    await begun(service, "/1", "/2")
    assert rows.rows == []
    service._take(message("/3"), ANONYMOUS)
    service.flush()
    assert [row["request_url_path"] for row in rows.rows] == ["/1", "/2", "/3"]
    await asyncio.sleep(0.05)  # a step that was still to be taken would be taken by now
    assert counted.rows == 3


async def test_what_is_begun_is_not_lost_when_the_service_drains() -> None:
    service, rows, _ = make()
    await begun(service, "/1")
    await service.drain(1)
    assert [row["request_url_path"] for row in rows.rows] == ["/1"]


async def test_a_bad_message_costs_itself_and_is_counted() -> None:
    service, rows, counted = make()
    await service.stream(stream_of(message("/1", node="a"), b"\x12\x05\x0a\x03\xff\xff\xff", message("/2")), Call())
    service.flush()
    assert [row["request_url_path"] for row in rows.rows] == ["/1", "/2"]
    assert sum(count for _, count, reason in rows.dropped if reason == "malformed") == 1
    assert counted.rows == 2


async def test_garbage_as_the_first_message_does_not_end_the_stream() -> None:
    service, rows, _ = make()
    await service.stream(stream_of(b"\x0a\xff\xff", message("/1", node="a")), Call())
    service.flush()
    assert [row["context_reporter_uid"] for row in rows.rows] == ["a"]


async def test_entries_of_tcp_become_rows_of_their_own_and_a_bad_one_is_booked_there() -> None:
    service, rows, counted = make()
    sent = StreamAccessLogsMessage()
    sent.tcp_logs.log_entry.add().connection_properties.received_bytes = 7
    bad = b"\x1a\x04\x0a\x02\x0a\x7f"
    await service.stream(stream_of(message(node="a") + sent.SerializeToString(), bad, message("/1")), Call())
    service.flush()
    assert [row["connection_received_bytes_total"] for row in rows.connections] == [7]
    assert [row["context_reporter_uid"] for row in (*rows.connections, *rows.rows)] == ["a", "a"]
    assert rows.dropped == [("connections", 1, "malformed")]
    assert (counted.rows, counted.connections) == (1, 1)


async def test_draining_ends_open_streams_and_decodes_what_they_brought() -> None:
    service, rows, _ = make()
    never = asyncio.Event()
    reading = [
        asyncio.create_task(service.stream(stream_of(message(f"/{index}"), then=never), Call())) for index in range(3)
    ]
    await asyncio.sleep(0.01)
    await asyncio.wait_for(service.drain(5), 20)
    assert await asyncio.gather(*reading) == [EMPTY_RESPONSE] * 3
    assert len(rows.rows) == 3


async def test_a_stream_is_not_read_on_while_there_is_no_room_and_draining_ends_it_all_the_same() -> None:
    rows, registry = Rows(), Registry()
    service = AccessLogService(AccessLogDecoder(), [], rows, registry, SystemClock())
    read = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal read
        for index in range(5):
            read += 1
            yield message(f"/{index}")
        await asyncio.Event().wait()

    rows.has_room.clear()
    reading = asyncio.create_task(service.stream(counted(), Call()))
    await asyncio.sleep(0.05)
    assert read == 1, "what has come is taken, and no more is read"
    rows.has_room.set()
    for _ in range(500):
        if read == 5 and held_seconds(registry) > 0:
            break
        await asyncio.sleep(0.01)
    rows.has_room.clear()
    held = asyncio.create_task(service.stream(stream_of(message("/held"), message("/unread")), Call()))
    await asyncio.sleep(0.01)
    await asyncio.wait_for(service.drain(5), 30)
    assert await asyncio.gather(reading, held) == [EMPTY_RESPONSE] * 2
    assert {row["request_url_path"] for row in rows.rows} == {*(f"/{index}" for index in range(5)), "/held"}


async def test_a_large_message_is_taken_whole_also_when_its_stream_ends_in_the_middle() -> None:
    service, rows, _ = make()
    large = message(*(f"/{index}" + "x" * 10_000 for index in range(300)))
    reading = asyncio.create_task(service.stream(stream_of(large, then=asyncio.Event()), Call()))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    service.flush()
    assert len(rows.rows) == 300


async def test_a_stream_that_is_never_quiet_does_not_hold_the_drain() -> None:
    service, rows, _ = make()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield message("/1")
            await asyncio.sleep(0.02)

    reading = asyncio.create_task(service.stream(endless(), Call()))
    await asyncio.sleep(0.05)
    begun = asyncio.get_running_loop().time()
    await asyncio.wait_for(service.drain(60), 30)
    assert asyncio.get_running_loop().time() - begun < 30
    assert await reading == EMPTY_RESPONSE
    assert rows.rows


async def test_a_stream_whose_caller_goes_away_is_cancelled_and_forgotten() -> None:
    service, rows, _ = make()
    reading = asyncio.create_task(service.stream(stream_of(message("/1"), then=asyncio.Event()), Call()))
    await asyncio.sleep(0.01)
    reading.cancel()
    assert (await asyncio.gather(reading, return_exceptions=True))[0].__class__ is asyncio.CancelledError
    await service.drain(5)
    assert len(rows.rows) == 1


def held_seconds(registry: Registry) -> float:
    (seconds,) = (
        values[0] for series, values in registry.read() if series.name == "mixer_access_log_held_seconds_total"
    )
    return seconds


def ended(registry: Registry) -> dict[str, float]:
    return {
        dict(series.labels)["reason"]: values[0]
        for series, values in registry.read()
        if series.name == "mixer_access_log_streams_ended_total"
    }


async def test_how_a_stream_ended_is_counted() -> None:
    registry = Registry()
    service = AccessLogService(AccessLogDecoder(), [Counted()], Rows(), registry, SystemClock())

    async def breaks() -> AsyncIterator[bytes]:
        yield message("/1")
        raise OSError("the transport failed")

    await service.stream(stream_of(message("/1")), Call())
    with pytest.raises(OSError, match="the transport failed"):
        await service.stream(breaks(), Call())
    cut, drained = (
        asyncio.create_task(service.stream(stream_of(message("/1"), then=asyncio.Event()), Call())) for _ in range(2)
    )
    await asyncio.sleep(0.01)
    cut.cancel()
    await asyncio.gather(cut, return_exceptions=True)
    await service.drain(5)
    await drained
    assert ended(registry) == {"half_closed": 1, "failed": 1, "cut": 1, "drained": 1}


async def test_a_stream_that_grpc_cancels_just_after_its_end_was_cut() -> None:
    registry, rows = Registry(), Rows()
    service = AccessLogService(AccessLogDecoder(), [Counted()], rows, registry, SystemClock())
    reading = asyncio.create_task(service.stream(stream_of(message("/1")), Call()))
    for _ in range(500):
        if rows.rows:
            break
        await asyncio.sleep(0.001)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert ended(registry) in ({"cut": 1}, {"half_closed": 1})  # the latter on a machine that slept meanwhile
    assert len(rows.rows) == 1


async def test_a_message_of_megabytes_is_taken_in_pieces_and_lets_others_in_between() -> None:
    service, rows, _ = make()
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    large = message(*(f"/{index}/{'x' * 1000}" for index in range(5000)), node="a")
    assert len(large) > 5_000_000
    await asyncio.sleep(0)
    before = turns
    await service.stream(stream_of(large), Call())
    beside.cancel()
    assert [str(row["request_url_path"]).split("/")[1] for row in rows.rows] == [str(index) for index in range(5000)]
    assert {row["context_reporter_uid"] for row in rows.rows} == {"a"}
    assert turns - before >= 5

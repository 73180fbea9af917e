"""Streams of StreamAccessLogsMessage: whatever comes, the books balance, and what protobuf reads is not lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from functools import cache

import pyarrow as pa
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage
from google.protobuf.message import DecodeError

from mixer_py.calls import Call
from mixer_py.instruments import FakeClock, Registry
from mixer_py.services import access_log
from mixer_py.services.access_log import EMPTY_RESPONSE, AccessLogService
from mixer_py.telemetry import validation
from mixer_py.telemetry.access_log.decoding import AccessLogDecoder
from mixer_py.telemetry.istio_metrics import IstioMetrics
from mixer_py.telemetry.recorder import Recorder
from mixer_py.telemetry.settings import QueueSettings
from tests.fuzz.target import joined, run, split

QUEUE = QueueSettings(rows=20, block_rows=5, block_interval="1ms")
"""So small that a stream may overflow it."""


class Shelf:
    """Keeps how many rows it was given; refuses a block now and then for good."""

    def __init__(self) -> None:
        self.rows = 0

    async def write(self, table: str, batch: pa.RecordBatch, token: str) -> None:
        validation.check(table, batch)
        self.rows += len(batch)

    async def close(self) -> None: ...


@cache
def decoder() -> AccessLogDecoder:
    """One for all inputs, for it takes longer to make than to use; it remembers connections, as it does in a worker."""
    return AccessLogDecoder(FakeClock())


async def stream_of(messages: list[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


def check(data: bytes) -> None:
    run(_check(split(data)))


async def _check(messages: list[bytes]) -> None:
    registry, clock, shelf = Registry(), FakeClock(), Shelf()
    recorder = Recorder(QUEUE, registry, clock, shelf)
    metrics = IstioMetrics(registry)
    service = AccessLogService(decoder(), [metrics], recorder, registry, clock)
    first, second = messages[::2], messages[1::2]
    answers = await asyncio.gather(service.stream(stream_of(first), Call()), service.stream(stream_of(second), Call()))
    assert answers == [EMPTY_RESPONSE] * 2, "one answer a stream"
    recorder.start()
    await recorder.drain(10)
    _check_books(registry, shelf, messages)


def _check_books(registry: Registry, shelf: Shelf, messages: list[bytes]) -> None:
    books: Counter[str] = Counter()
    for series, values in registry.read():
        labels = dict(series.labels)
        if series.name == "mixer_rows_total":
            books[labels["state"]] += int(values[0])
            books[labels["reason"]] += int(values[0])
        elif series.name == "mixer_access_log_unfinished_total":
            books["unfinished"] += int(values[0])
    assert books["received"] == books["written"] + books["dropped"], f"the books do not balance: {books}"
    assert books["written"] == shelf.rows, f"{shelf.rows} rows were written: {books}"
    assert not books["invalid"] + books["unexpected"], f"rows were made that cannot be stored: {books}"
    readable = [_entries(message) for message in messages]
    sent = sum(entries for entries in readable if entries is not None)
    seen = books["received"] + books["unfinished"]
    assert seen >= sent, f"{sent} entries can be read, {seen} were seen: {books}"
    if None not in readable:
        assert (seen, books["malformed"]) == (sent, 0), f"{sent} good entries, {seen} seen: {books}"


def _entries(message: bytes) -> int | None:
    """How many entries protobuf finds in a message; None where it finds the message malformed."""
    try:
        parsed = StreamAccessLogsMessage.FromString(message)
    except DecodeError:
        return None
    return len(parsed.http_logs.log_entry) + len(parsed.tcp_logs.log_entry)


def seeds() -> Iterator[bytes]:
    messages = []
    for name in ("inbound", "outbound"):
        message = StreamAccessLogsMessage()
        message.identifier.log_name, message.identifier.node.id = name, "sidecar~10.0.0.1~web.shop~shop.svc"
        message.identifier.node.metadata.update({"LABELS": {"app": "web"}, "CLUSTER_ID": "Kubernetes"})
        _fill_http(message)
        _fill_tcp(message)
        messages.append(message.SerializeToString())
        message.ClearField("identifier")
        messages.append(message.SerializeToString())
    yield joined(messages)
    yield joined([*messages, b"\x12\x05\x0a\x03\xff\xff\xff", b"\x0a\xff\xff"])
    for message in messages:
        yield joined([message])
    yield joined([b"\x62\x03\x0a\x01\x66", b"\x12\x0d\x0a\x0b\x0a\x09\x8a\x01\x06\x0a\x04\x0a\x02\x66\x66"])


def _fill_http(message: StreamAccessLogsMessage) -> None:
    entry = message.http_logs.log_entry.add()
    common, request, response = entry.common_properties, entry.request, entry.response
    common.start_time.seconds, common.upstream_cluster = (
        1_790_000_000,
        "outbound|9080|v1|reviews.shop.svc.cluster.local",
    )
    common.duration.nanos = common.time_to_last_upstream_rx_byte.nanos = 5_000_000
    common.response_flags.no_healthy_upstream = True
    common.tls_properties.local_certificate_properties.subject_alt_name.add(uri="spiffe://td/ns/a/sa/b")
    common.metadata.filter_metadata["envoy.filters.http.ext_authz"].update(
        {"decision_id": "d", "mixer_verdict": "allow", "mixer_quota_remaining": 3.0}
    )
    common.metadata.filter_metadata["envoy.filters.http.jwt_authn"].update(
        {"p": {"iss": "i", "sub": "s", "aud": ["a"]}}
    )
    common.filter_state_objects["downstream_peer"].type_url = "type.googleapis.com/google.protobuf.Struct"
    common.filter_state_objects["downstream_peer"].value = b"\x0a\x12\x0a\x09NAMESPACE\x12\x05\x1a\x03abc"
    common.filter_state_objects["wasm.upstream_peer"].type_url = "type.googleapis.com/google.protobuf.BytesValue"
    common.filter_state_objects["wasm.upstream_peer"].value = b"\x0a\x08\x04\0\0\0\x04\0\x04\0"
    common.custom_tags["destination.principal"] = "spiffe://td/ns/c/sa/d"
    request.path, request.request_id, request.request_method = "/a?b=c", "r", 1
    request.request_headers["content-type"] = "application/grpc"
    response.response_code.value, response.response_code_details = 200, "via_upstream"
    response.response_trailers["grpc-status"] = "14"


def _fill_tcp(message: StreamAccessLogsMessage) -> None:
    entry = message.tcp_logs.log_entry.add()
    entry.common_properties.stream_id, entry.common_properties.access_log_type = "c-1", 9
    entry.connection_properties.received_bytes, entry.connection_properties.sent_bytes = 10, 20
    entry.common_properties.downstream_remote_address.socket_address.address = "::1"
    entry.common_properties.tls_properties.peer_certificate_properties.subject = "CN=x"


access_log._CUT_SECONDS = 0.0  # what gRPC needs in order to say that a stream was cut; nothing cuts one here

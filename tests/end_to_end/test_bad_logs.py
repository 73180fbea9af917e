"""Bad access logs sent to a running mixer: each costs itself, is counted by reason, and the rest is kept."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage

from tests.parts.grpc_client import Client, connect
from tests.parts.mixer_process import Mixer, eventually

pytestmark = [pytest.mark.chdb]


@pytest.fixture(scope="module")
def mixer(make_module_mixer) -> Mixer:
    mixer = make_module_mixer(telemetry={"prometheus": {"drop_labels": ["source_app"]}})
    mixer.start()
    return mixer


@pytest.fixture
def client(mixer: Mixer) -> Iterator[Client]:
    with connect(mixer.address) as client:
        yield client


def entries(*request_ids: str, identified: bool = True) -> StreamAccessLogsMessage:
    message = StreamAccessLogsMessage()
    if identified:
        message.identifier.log_name = "inbound"
        message.identifier.node.id = "bad-logs"
    for request_id in request_ids:
        message.http_logs.log_entry.add().request.request_id = request_id
    return message


def counted(mixer: Mixer, state: str, reason: str = "") -> float:
    return mixer.metric("mixer_rows_total", table="requests", state=state, reason=reason)


def test_a_malformed_message_costs_itself(client: Client, mixer: Mixer):
    before = counted(mixer, "dropped", "malformed")
    client.log([entries("good-1"), b"\x12\x05\x0a\x03\xff\xff\xff", entries("good-2")])
    mixer.row("good-1")
    mixer.row("good-2")
    eventually(lambda: counted(mixer, "dropped", "malformed") == before + 1, "one malformed entry")


def test_what_makes_decoders_panic_costs_nothing_but_itself(client: Client, mixer: Mixer):
    """A map's entry with no value: for ptars' own maps a panic, of which the projection has none."""
    entry = b"\x1a\x0c\x4a\x0ano-value-1" + b"\x0a\x08\x8a\x01\x05\x0a\x03\x0a\x01\x66"
    logs = b"\x0a" + bytes([len(entry)]) + entry
    client.log([entries("before-panic"), b"\x12" + bytes([len(logs)]) + logs, entries("after-panic")])
    for request_id in ("before-panic", "no-value-1", "after-panic"):
        mixer.row(request_id)


def test_a_stream_without_a_first_message_is_read_all_the_same(client: Client, mixer: Mixer):
    client.log([entries("unnamed", identified=False)])
    row = mixer.row("unnamed")
    assert (row["context_reporter_uid"], row["reporter"]) == ("", "source")


def test_a_batch_of_a_hundred_megabytes_is_refused_and_costs_its_stream_alone(client: Client, mixer: Mixer):
    before = mixer.metric("mixer_access_log_streams_ended_total", reason="cut")
    huge = entries("huge")
    huge.http_logs.log_entry[0].request.path = "x" * (100 << 20)
    with pytest.raises(grpc.RpcError, match="larger than max") as refused:
        client.log([entries("before-huge"), huge])
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    mixer.row("before-huge")
    client.log([entries("after-huge")])
    mixer.row("after-huge")
    eventually(
        lambda: mixer.metric("mixer_access_log_streams_ended_total", reason="cut") == before + 1,
        "a stream that was cut",
    )


def test_entries_with_nothing_in_common_and_clocks_years_off_are_rows(client: Client, mixer: Mixer):
    message = entries("bare", "past", "future")
    message.http_logs.log_entry[1].common_properties.start_time.seconds = -(2**40)
    message.http_logs.log_entry[2].common_properties.start_time.seconds = 2**40
    client.log([message])
    years = {name: mixer.row(name)["timestamp"][:4] for name in ("bare", "past", "future")}
    assert (years["past"], years["future"]) == ("1970", "2262")
    assert years["bare"] > "2024"


def test_a_label_of_a_megabyte_is_cut_and_its_row_is_whole(client: Client, mixer: Mixer):
    message = entries("wide")
    message.http_logs.log_entry[0].common_properties.upstream_cluster = "c" * 1_000_000
    client.log([message])
    assert len(mixer.row("wide")["upstream_cluster"]) == 1_000_000
    eventually(lambda: mixer.metric("istio_requests_total", destination_service="c" * 256) == 1, "a label that is cut")
    assert not any("source_app" in dict(labels) for _, labels in mixer.metrics("istio_requests_total"))

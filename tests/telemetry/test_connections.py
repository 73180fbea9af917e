"""Rows of `connections` hold what a decoder that goes entry by entry finds; Istio's metrics of TCP what they add."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest
from envoy.data.accesslog.v3.accesslog_pb2 import TCPAccessLogEntry
from envoy.service.accesslog.v3 import als_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_decoder import connection_row, tcp_entries

from mixer_py.instruments import FakeClock, Registry
from mixer_py.telemetry import validation
from mixer_py.telemetry.access_log.decoding import ANONYMOUS, AccessLogDecoder, StreamIdentity
from mixer_py.telemetry.columns import CONNECTIONS
from mixer_py.telemetry.istio_metrics import IstioMetrics
from mixer_py.telemetry.istio_names import LABELS

CLOCK = FakeClock()
DECODER = AccessLogDecoder(CLOCK)
ADDED = {"connection_received_bytes", "connection_sent_bytes"}
IDENTITIES = [ANONYMOUS, StreamIdentity("inbound", "envoy-2", "shop", {"NAMESPACE": "a", "LABELS.app": "gateway"})]
streams = st.lists(st.tuples(st.lists(tcp_entries(), max_size=4), st.sampled_from(IDENTITIES)), max_size=4)


def message(*entries: TCPAccessLogEntry) -> bytes:
    logs = als_pb2.StreamAccessLogsMessage()
    logs.tcp_logs.log_entry.extend(entries)
    return logs.SerializeToString()


@given(streams)
@settings(deadline=None)
def test_columns_agree_with_the_decoder_that_goes_entry_by_entry(batch):
    decoded = DECODER.decode([(message(*logs), identity) for logs, identity in batch])
    wanted = [connection_row(log, identity, CLOCK.wall_ns()) for logs, identity in batch for log in logs]
    rows = decoded.connections.set_column(0, "timestamp", decoded.connections.column(0).cast(pa.int64())).to_pylist()
    maps = [column.name for column in CONNECTIONS.columns if column.kind.is_map]
    rows = [row | {name: dict(row[name]) for name in maps} for row in rows]
    assert [{name: value for name, value in row.items() if name not in ADDED} for row in rows] == [
        {name: row[name] for name in CONNECTIONS.names if name not in ADDED} for row in wanted
    ]
    assert (decoded.malformed, decoded.received, len(decoded.opened)) == (0, len(wanted), len(wanted))
    validation.check("connections", decoded.connections)


def entry(kind: int, received: int, sent: int, *, connection: str = "c", cluster: str = "db") -> TCPAccessLogEntry:
    made = TCPAccessLogEntry()
    common = made.common_properties
    common.access_log_type, common.stream_id, common.upstream_cluster = kind, connection, cluster
    made.connection_properties.received_bytes, made.connection_properties.sent_bytes = received, sent
    return made


def test_a_malformed_entry_costs_itself_alone():
    good = message(entry(1, 0, 0, connection="malformed"), entry(2, 5, 5, connection="malformed"))
    bad = bytes([3 << 3 | 2, 4, 1 << 3 | 2, 2, 0x0A, 0x7F])  # an entry that is longer than its message
    decoded = DECODER.decode([(good, ANONYMOUS), (bad, ANONYMOUS), (good, ANONYMOUS)])
    assert (decoded.malformed_connections, decoded.malformed_requests) == (1, 0)
    assert len(decoded.connections) == 4


def test_both_kinds_of_entries_may_come_together():
    logs = als_pb2.StreamAccessLogsMessage()
    logs.http_logs.log_entry.add().request.request_id = "r"
    decoded = DECODER.decode([(logs.SerializeToString() + message(entry(3, 1, 2)), IDENTITIES[1])])
    assert decoded.requests.column("request_id").to_pylist() == ["r"]
    assert decoded.connections.column("destination_app").to_pylist() == ["gateway"]


def count(*batches: list[TCPAccessLogEntry], identity: StreamIdentity = ANONYMOUS):
    """Istio's metrics of TCP after some batches: values by name and labels, without those at zero."""
    registry = Registry()
    metrics, decoder = IstioMetrics(registry), AccessLogDecoder(CLOCK)
    for entries in batches:
        decoded = decoder.decode([(message(*entries), identity)])
        metrics.count_connections(decoded.connections, decoded.opened)
    return {(series.name, series.labels): values[0] for series, values in registry.read()}


def test_metrics_of_tcp_have_istios_names_labels_and_words():
    made = entry(3, 10, 20, cluster="outbound|3306||db.bank.svc.cluster.local")
    counted = count([made], identity=StreamIdentity("outbound", "n", "shop"))
    assert {name: value for (name, _), value in counted.items()} == {
        "istio_tcp_received_bytes_total": 10, "istio_tcp_sent_bytes_total": 20,
        "istio_tcp_connections_opened_total": 1, "istio_tcp_connections_closed_total": 1,
    }  # fmt: skip
    (labels,) = {labels for _, labels in counted}
    assert [name for name, _ in labels] == [
        label for label in LABELS if label not in {"response_code", "grpc_response_status"}
    ]
    values = dict(labels)
    assert {name: value for name, value in values.items() if value not in {"unknown", "latest"}} == {
        "reporter": "source", "source_workload": "shop", "destination_service": "db.bank.svc.cluster.local",
        "destination_service_name": "db", "destination_service_namespace": "bank", "request_protocol": "tcp",
        "response_flags": "-",
    }  # fmt: skip


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.sampled_from([1, 2, 3, 14]), st.integers(0, 1000), st.integers(0, 1000), st.sampled_from("abc"),
                st.sampled_from(["", "x", "y"]),
            ),
            max_size=8,
        ),
        max_size=4,
    )
)  # fmt: skip
@settings(deadline=None)
def test_groups_count_as_rows_do(batches):
    made = [[entry(kind, r, s, connection=c, cluster=u) for kind, r, s, c, u in batch] for batch in batches]
    grouped = count(*made)
    decoder = AccessLogDecoder(CLOCK)
    slow: dict[tuple[str, str], float] = {}
    for one in (one for batch in made for one in batch):
        decoded = decoder.decode([(message(one), ANONYMOUS)])
        (row,) = decoded.connections.to_pylist()
        for name, amount in (
            ("received_bytes", row["connection_received_bytes"]), ("sent_bytes", row["connection_sent_bytes"]),
            ("connections_opened", bool(decoded.opened[0])), ("connections_closed", row["connection_event"] == "close"),
        ):  # fmt: skip
            key = f"istio_tcp_{name}_total", row["destination_service_host"] or "unknown"
            slow[key] = slow.get(key, 0) + amount
    found = {(name, dict(labels)["destination_service"]): value for (name, labels), value in grouped.items()}
    assert found == {key: value for key, value in slow.items() if value}


def test_nothing_counts_nothing():
    registry = Registry()
    IstioMetrics(registry).count_connections(DECODER.decode([]).connections, np.zeros(0, dtype=np.bool_))
    assert registry.read() == []


@pytest.mark.parametrize("kind", [0, 3, 13])
def test_the_end_is_when_it_began_and_what_has_passed(kind):
    made = entry(kind, 0, 0)
    made.common_properties.start_time.seconds, made.common_properties.duration.seconds = 1_000, 60
    row = DECODER.decode([(message(made), ANONYMOUS)]).connections.to_pylist()[0]
    assert (row["connection_event"], row["timestamp"].timestamp(), row["connection_duration"]) == (
        "close", 1_060, 60_000_000,
    )  # fmt: skip


def test_a_report_in_between_is_dated_by_when_it_came():
    made = entry(2, 0, 0)
    made.common_properties.start_time.seconds = 1_000
    row = DECODER.decode([(message(made), ANONYMOUS)]).connections.to_pylist()[0]
    assert (row["timestamp"].timestamp(), row["connection_duration"]) == (CLOCK.wall(), None)


@given(st.lists(tcp_entries(), min_size=1, max_size=4), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_flipped_bytes_never_crash_and_never_lose_another_message(logs, chance: random.Random):
    whole, broken = message(entry(3, 1, 2, connection="whole")), bytearray(message(*logs))
    for _ in range(chance.randint(1, 4)):
        broken[chance.randrange(len(broken))] = chance.randrange(256)
    decoded = DECODER.decode([(whole, ANONYMOUS), (bytes(broken), ANONYMOUS), (whole, ANONYMOUS)])
    found = decoded.connections.column("connection_id").to_pylist()
    assert (found[0], found[-1]) == ("whole", "whole")
    validation.check("connections", decoded.connections)
    IstioMetrics(Registry()).count_connections(decoded.connections, decoded.opened)

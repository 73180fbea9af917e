"""A large message comes apart into smaller ones that say the same."""

from __future__ import annotations

from envoy.data.accesslog.v3 import accesslog_pb2
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage
from hypothesis import given
from hypothesis import strategies as st

from mixer_py.telemetry.access_log.wire import pieces


@given(st.lists(st.integers(0, 300), max_size=20), st.lists(st.integers(0, 300), max_size=5), st.integers(1, 1000))
def test_pieces_put_together_are_the_message(requests, connections, size):
    message = StreamAccessLogsMessage()
    message.http_logs.log_entry.extend(
        accesslog_pb2.HTTPAccessLogEntry(request=accesslog_pb2.HTTPRequestProperties(path="x" * length))
        for length in requests
    )
    message.tcp_logs.log_entry.extend(
        accesslog_pb2.TCPAccessLogEntry(
            common_properties=accesslog_pb2.AccessLogCommon(route_name="y" * length),
            connection_properties=accesslog_pb2.ConnectionProperties(received_bytes=1),
        )
        for length in connections
    )
    whole = message.SerializeToString()
    found = pieces(whole, size)
    together = StreamAccessLogsMessage.FromString(b"".join(found))
    assert list(together.http_logs.log_entry) == list(message.http_logs.log_entry)
    assert list(together.tcp_logs.log_entry) == list(message.tcp_logs.log_entry)
    assert all(len(one) <= size + 320 for one in found) or len(found) == 1


@given(st.binary(max_size=60), st.integers(1, 20))
def test_what_cannot_be_walked_stays_whole(garbage, size):
    found = pieces(garbage + b"\xff\xff", size)
    assert found == (garbage + b"\xff\xff",) or len(found) > 1

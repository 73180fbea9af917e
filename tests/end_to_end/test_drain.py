"""SIGTERM: not ready, drain, flush, exit 0; nothing that was accepted is lost."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time

import grpc
import pytest
from envoy.service.accesslog.v3 import als_pb2

from tests.end_to_end.conftest import NO_ROWS
from tests.parts.grpc_client import check_request, connect
from tests.parts.mixer_process import eventually

pytestmark = pytest.mark.chdb


def log_messages(entries: int) -> list[als_pb2.StreamAccessLogsMessage]:
    """A stream of access logs, ten entries a message."""
    messages = []
    for first in range(0, entries, 10):
        message = als_pb2.StreamAccessLogsMessage()
        if not first:
            message.identifier.log_name = "outbound"
            message.identifier.node.id = "drain"
        for number in range(first, min(first + 10, entries)):
            entry = message.http_logs.log_entry.add()
            entry.common_properties.start_time.GetCurrentTime()
            entry.request.request_id = f"drain-{number}"
            entry.response.response_code.value = 200
        messages.append(message)
    return messages


def test_rows_that_were_accepted_are_written_before_the_end(make_mixer):
    mixer = make_mixer()
    mixer.start()
    with connect(mixer.address) as client:
        client.log(log_messages(500))
        for _ in range(20):
            client.check(check_request())
    mixer.running.signal(signal.SIGTERM)
    assert mixer.running.wait(60) == 0
    told = json.loads(mixer.running.tail(1))
    assert (told["event"], told["rows"]) == (
        "ended",
        {"requests": {"received": 500, "written": 500}, "decisions": {"received": 20, "written": 20}},
    )
    mixer.start()
    (counted,) = mixer.query("SELECT count() AS entries, uniqExact(request_id) AS ids FROM requests")
    assert (int(counted["entries"]), int(counted["ids"])) == (500, 500)
    (decided,) = mixer.query("SELECT count() AS decisions FROM decisions")
    assert int(decided["decisions"]) == 20


# `slow` in the path keeps the worker busy for a moment, so that calls wait behind it.
SLOW = """
package envoy.authz

import rego.v1

default allow := true

allow := false if {
    input.parsed_path[0] == "slow"
    count([1 | some i in numbers.range(1, 1000); some j in numbers.range(1, 1000); i * j == 0]) > 0
}
"""


def test_calls_that_have_arrived_are_answered_before_the_end(make_mixer):
    mixer = make_mixer(SLOW, telemetry=NO_ROWS, policy={"max_stall": "60s"})
    mixer.start()
    with connect(mixer.address) as client:
        client.check(check_request())
        busy = [client.check_later(check_request("/slow")) for _ in range(3)]
        waiting = [client.check_later(check_request()) for _ in range(10)]
        time.sleep(1)  # until they have arrived; the worker is busy for longer
        mixer.running.signal(signal.SIGTERM)
        codes = [call.code() for call in (*busy, *waiting)]
    assert mixer.running.wait(60) == 0
    assert set(codes) == {grpc.StatusCode.OK}


def test_later_calls_are_turned_away(make_mixer):
    mixer = make_mixer(telemetry=NO_ROWS)
    mixer.start()
    with connect(mixer.address) as client:
        client.check(check_request())
        mixer.running.signal(signal.SIGTERM)
        assert mixer.running.wait(60) == 0
        with pytest.raises(grpc.RpcError) as failure:
            client.check(check_request())
    assert failure.value.code() == grpc.StatusCode.UNAVAILABLE


def test_an_open_log_stream_does_not_keep_mixer_from_ending(make_mixer):
    mixer = make_mixer()
    mixer.start()
    hold = threading.Event()

    def messages():
        yield from log_messages(30)
        hold.wait(60)

    def stream() -> None:
        with connect(mixer.address) as client, contextlib.suppress(grpc.RpcError):  # ended by the server
            client.log(messages())

    streaming = threading.Thread(target=stream)
    streaming.start()
    try:
        eventually(lambda: mixer.metric("mixer_rows_total", table="requests", state="received") == 30, "30 entries")
        mixer.running.signal(signal.SIGTERM)
        assert mixer.running.wait(60) == 0
    finally:
        hold.set()
        streaming.join()
    mixer.start()
    (counted,) = mixer.query("SELECT count() AS entries FROM requests")
    assert int(counted["entries"]) == 30

"""SIGTERM: not ready, drain, flush, exit 0; nothing that was accepted is lost."""

from __future__ import annotations

import contextlib
import signal
import threading

import grpc
import pytest
from envoy.service.accesslog.v3 import als_pb2

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
    mixer.start()
    (counted,) = mixer.query("SELECT count() AS entries, uniqExact(request_id) AS ids FROM requests")
    assert (int(counted["entries"]), int(counted["ids"])) == (500, 500)
    (decided,) = mixer.query("SELECT count() AS decisions FROM decisions")
    assert int(decided["decisions"]) == 20


def test_calls_under_way_end_well_and_later_ones_are_refused(make_mixer):
    mixer = make_mixer()
    mixer.start()
    ends: list[grpc.StatusCode] = []
    answered = threading.Semaphore(0)

    def call_until_refused() -> None:
        with connect(mixer.address) as client:
            while True:
                try:
                    client.check(check_request(), seconds=30)
                except grpc.RpcError as error:
                    ends.append(error.code())
                    return
                answered.release()

    callers = [threading.Thread(target=call_until_refused) for _ in range(3)]
    for caller in callers:
        caller.start()
    for _ in range(30):
        assert answered.acquire(timeout=60)
    mixer.running.signal(signal.SIGTERM)
    assert mixer.running.wait(60) == 0
    for caller in callers:
        caller.join()
    assert set(ends) == {grpc.StatusCode.UNAVAILABLE}


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

"""A listener of the transport envoy as its callers see it: a real Envoy, with Python inside that fails in every way."""

from __future__ import annotations

import gzip
import signal
import socket
import sys
import time
import zlib
from collections.abc import Callable, Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mixer_py.demo.processes import Program, accepts
from tests.parts.mixer_process import eventually
from tests.parts.presence import ROOT
from tests.parts.raw_grpc import message, raw
from tests.transports.in_envoy import METHOD, MOST_BYTES, MOST_CALLS, MOST_WAITING

pytestmark = pytest.mark.envoy

SECONDS = 60.0
INTERNAL = grpc.StatusCode.INTERNAL.value[0]
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE.value[0]
READY = grpc.ChannelConnectivity.READY
Caller = Callable[..., bytes]


@pytest.fixture(scope="module")
def start(module_programs, ports) -> Callable[[], tuple[int, Program]]:
    def start() -> tuple[int, Program]:
        port = ports.take()
        folder = module_programs.folder / f"files-{port}"
        command = (sys.executable, "-m", "tests.transports.in_envoy", folder, str(port))
        program = module_programs.start(f"envoy-{port}", command, environment={"PYTHONPATH": str(ROOT)})
        program.wait_until(lambda: accepts(port))
        return port, program

    return start


@pytest.fixture(scope="module")
def port(start) -> int:
    return start()[0]


@pytest.fixture
def channel(port: int) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield channel


@pytest.fixture
def call(channel: grpc.Channel) -> grpc.UnaryUnaryMultiCallable:
    return channel.unary_unary(METHOD)


def ends(call: Callable[..., object], message: bytes, seconds: float = SECONDS, **more: object) -> tuple[str, str]:
    """The status and its message of a call that fails."""
    with pytest.raises(grpc.RpcError) as failure:
        call(message, timeout=seconds, **more)
    return failure.value.code().name, failure.value.details() or ""


@pytest.mark.parametrize("size", [0, 1, 5, 16_384, 70_000, MOST_BYTES], ids=str)
def test_bytes_go_in_and_out(call, size: int):
    message = bytes(index % 251 for index in range(size))
    assert call(message, timeout=SECONDS) == message


@pytest.mark.parametrize("word", ["bug", "panic", "exit", "interrupt", "cancel", "generator", "nothing", "text"])
def test_no_failure_reads_as_success_and_the_next_call_works(call, word: str):
    status, details = ends(call, word.encode())
    assert status == "INTERNAL"
    assert details.startswith("internal error: ")
    assert call(b"next", timeout=SECONDS) == b"next"


REPLY = [("x", f"{when} {event}") for when in ("before", "after") for event in (0, 1, 2)]
REFUSAL = [("bug", f"{when} {event}") for when in ("before", "after") for event in (0, 1)]


@pytest.mark.parametrize("name", ["bug", "panic", "exit", "cancel"])
@pytest.mark.parametrize(("word", "place"), [*REPLY, *REFUSAL])
def test_a_failure_while_a_reply_is_handed_to_envoy_is_no_success_on_the_wire(
    port: int, word: str, place: str, name: str
):
    """It is handed over event by event: the headers, the body, and a reply's trailers."""
    with raw(f"127.0.0.1:{port}") as connection:
        reply = connection.call(METHOD, message(word.encode()), extra=[("break", f"raise {name} {place}")])
        assert connection.call(METHOD, message(b"next")).messages == [b"next"]
    if (word, place) == ("x", "after 2"):  # all of it was handed over
        assert (reply.status, reply.messages) == (0, [b"x"])
    else:
        assert not reply.reads_as_success
        assert reply.status == INTERNAL or reply.reset is not None


def test_a_status_comes_with_its_message_in_any_language(call):
    assert ends(call, b"status") == ("UNKNOWN", "policy says: nö, 100 %\n")


def test_a_message_that_is_too_long_for_a_header_is_cut(call):
    status, details = ends(call, b"status 100000")
    assert status == "UNKNOWN"
    assert details.startswith("policy says: nö, 100 %\nxxx")


def test_an_unknown_method_is_unimplemented(channel: grpc.Channel):
    status, details = ends(channel.unary_unary("/test.Service/Other"), b"")
    assert status == "UNIMPLEMENTED"
    assert "/test.Service/Other" in details


@pytest.mark.parametrize("more", [1, 5_000_000])
def test_a_message_above_the_limit_is_resource_exhausted(call, more: int):
    assert ends(call, b"x" * (MOST_BYTES + more))[0] == "RESOURCE_EXHAUSTED"
    assert call(b"next", timeout=SECONDS) == b"next"


@pytest.mark.parametrize("way", [grpc.Compression.Gzip, grpc.Compression.Deflate], ids=["gzip", "deflate"])
def test_a_compressed_message_is_read(channel: grpc.Channel, way: grpc.Compression):
    message = b"again and " * 1000
    assert channel.unary_unary(METHOD)(message, timeout=SECONDS, compression=way) == message


def test_a_message_that_is_too_large_only_decompressed_is_refused(channel: grpc.Channel):
    bomb = b"\0" * (MOST_BYTES + 1)
    assert len(gzip.compress(bomb)) < MOST_BYTES > len(zlib.compress(bomb))
    assert ends(channel.unary_unary(METHOD), bomb, compression=grpc.Compression.Gzip)[0] == "RESOURCE_EXHAUSTED"


def test_a_stream_of_two_messages_is_no_unary_call(channel: grpc.Channel):
    two = channel.stream_unary(METHOD)
    assert ends(lambda message, timeout: two(iter((message, message)), timeout=timeout), b"x")[0] == "UNIMPLEMENTED"
    assert ends(lambda _message, timeout: two(iter(()), timeout=timeout), b"x")[0] == "UNIMPLEMENTED"


def test_a_deadline_is_kept_and_work_that_is_too_late_is_not_done(call):
    assert call(b"call", timeout=SECONDS) == b"True False"
    assert ends(call, b"slow late 40", seconds=0.5)[0] == "DEADLINE_EXCEEDED"
    eventually(lambda: b"late:cancelled" in call(b"book"), "the end of the work")


def test_work_for_a_caller_that_has_gone_is_not_done(channel: grpc.Channel, call):
    begun = call.future(b"slow gone 40", timeout=SECONDS)
    eventually(lambda: b"gone:begun" in call(b"book"), "the beginning of the work")
    begun.cancel()
    eventually(lambda: b"gone:cancelled" in call(b"book"), "the end of the work")
    assert b"gone:done" not in call(b"book")


def test_a_caller_without_a_deadline_waits(call):
    assert call(b"call") == b"False False"
    assert call(b"slow patient 0.3") == b"patient"


def test_above_max_in_flight_calls_are_unavailable_at_once(call):
    crowd = [call.future(b"slow many 40", timeout=SECONDS) for _ in range(MOST_CALLS + 5)]
    eventually(lambda: sum(one.done() for one in crowd) == 5, "five that are turned away")
    for one in crowd:
        if one.done():
            assert one.code() == grpc.StatusCode.UNAVAILABLE
            assert "max_in_flight" in one.details()
        one.cancel()
    eventually(lambda: call.future(b"x", timeout=SECONDS).code() == grpc.StatusCode.OK, "room again")


def test_above_max_waiting_envoy_itself_refuses_counts_and_goes_on_to_answer_health(channel, call, port: int):
    before = int(call(b"refused"))
    with raw(f"127.0.0.1:{port}") as connection:
        held = [connection.open(METHOD) for _ in range(MOST_WAITING + 5)]  # each waits for its message
        connection.until(lambda: sum(connection.replies[stream].is_over for stream in held) == 5)
        refused = [connection.replies[stream] for stream in held if connection.replies[stream].is_over]
        assert {reply.status for reply in refused} == {UNAVAILABLE}
        assert health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=SECONDS).status == 1
    eventually(lambda: call.future(b"x", timeout=SECONDS).code() == grpc.StatusCode.OK, "room again")
    eventually(lambda: int(call(b"refused")) - before >= len(refused), "the count of those that were refused")


def test_it_speaks_http2_only(port: int):
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as old:
        old.sendall(b"POST /test.Service/Method HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        answer = b"".join(iter(lambda: old.recv(4096), b""))  # until it is closed
    assert b"HTTP/1.1 2" not in answer


def test_health_tells_of_the_service(channel: grpc.Channel):
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="test.Service"))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_sigterm_lets_calls_in_flight_end_and_refuses_others(start):
    port, program = start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(METHOD)
        slow = call.future(b"slow last 1.5", timeout=SECONDS)
        eventually(lambda: b"last:begun" in call(b"book"), "the beginning of the work")
        program.signal(signal.SIGTERM)
        assert slow.result() == b"last"
    assert program.wait(SECONDS) == 0


def test_when_the_loop_dies_the_envoy_around_it_does_not_go_on(start):
    port, program = start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert ends(channel.unary_unary(METHOD), b"die")[0] in {"UNAVAILABLE", "INTERNAL"}
    assert program.wait(SECONDS) == 1


def test_idle_connections_are_asked_to_go(start):
    port, program = start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        states: list[grpc.ChannelConnectivity] = []
        channel.subscribe(states.append)
        channel.unary_unary(METHOD)(b"x", timeout=SECONDS)
        begun = time.monotonic()
        program.signal(signal.SIGTERM)
        assert program.wait(SECONDS) == 0
        assert time.monotonic() - begun < SECONDS
        eventually(lambda: READY in states and states[-1] is not READY, "the end of the connection")
    assert grpc.ChannelConnectivity.TRANSIENT_FAILURE not in states

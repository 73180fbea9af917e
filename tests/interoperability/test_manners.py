"""Calls that are no good ones: what gRPC's rules want is what the wire shows (grpc/grpc doc/PROTOCOL-HTTP2.md)."""

from __future__ import annotations

import gzip
from contextlib import suppress

import pytest

from tests.interoperability.conftest import Service, everywhere
from tests.interoperability.faulty_service import COUNT, LIMITS, LONG_ANSWER, OBEY
from tests.parts.raw_grpc import ConnectionGoneError, Reply, message

INVALID_ARGUMENT, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 3, 4, 8, 12, 13


def called(service: Service, *messages: bytes, path: str = OBEY, **headers: object) -> Reply:
    """The answer to a call, after which the same connection has answered rightly."""
    with service.raw() as connection:
        reply = connection.call(path, *messages, **headers)
        assert connection.call(OBEY, message(b"next")).messages == [b"next"]
    return reply


@everywhere
def test_a_good_call_has_headers_one_message_and_its_status_in_trailers(service: Service) -> None:
    reply = called(service, message(b"hello"))
    assert reply.messages == [b"hello"]
    assert dict(reply.headers)[":status"] == "200"
    assert dict(reply.headers)["content-type"] == "application/grpc"
    assert "grpc-status" not in dict(reply.headers)
    assert dict(reply.trailers)["grpc-status"] == "0"


def test_an_empty_message_is_a_message(service: Service) -> None:
    assert called(service, message(b"")).messages == [b""]


@pytest.mark.parametrize("path", ["/mixer.test.Faulty/No", "/no.Service/Obey", "/", "//", "/mixer.test.Faulty/Obey/"])
def test_an_unknown_method_is_unimplemented(service: Service, path: str) -> None:
    reply = called(service, message(b"x"), path=path)
    assert (reply.status, reply.body) == (UNIMPLEMENTED, b"")


def test_a_client_that_does_not_ask_for_trailers_gets_its_status_or_no_success(service: Service) -> None:
    reply = called(service, message(b"x"), without=["te"])
    assert reply.reset is not None or (reply.status, reply.messages) == (0, [b"x"])


@pytest.mark.parametrize("changed", [{"method": "GET"}, {"method": "PUT"}], ids=str)
def test_what_is_no_call_of_grpc_is_no_success(service: Service, changed: dict[str, object]) -> None:
    reply = called(service, message(b"x"), **changed)
    assert not reply.reads_as_success
    assert reply.body == b""


@everywhere
@pytest.mark.parametrize(
    "body", [message(b"x" * (LIMITS.max_message_bytes + 1)), message(b"x", length=0xFFFFFFFF)], ids=["sent", "claimed"]
)
def test_a_message_that_is_too_large_is_resource_exhausted_and_says_so(service: Service, body: bytes) -> None:
    with service.raw() as connection:
        stream = connection.open(OBEY)
        connection.send(stream, body, end=False)  # refused without the rest being waited for
        reply = connection.reply(stream)
        assert connection.call(OBEY, message(b"next")).messages == [b"next"]
    assert reply.status == RESOURCE_EXHAUSTED
    assert str(LIMITS.max_message_bytes) in reply.details


@everywhere
def test_the_largest_message_is_taken(service: Service) -> None:
    largest = b"x" * LIMITS.max_message_bytes
    assert called(service, message(largest)).messages == [largest]


def test_a_message_that_is_too_large_once_decompressed_is_resource_exhausted(service: Service) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert len(bomb) < LIMITS.max_message_bytes
    assert called(service, message(bomb, compressed=1), extra=[("grpc-encoding", "gzip")]).status == RESOURCE_EXHAUSTED


def test_a_compressed_message_is_read(service: Service) -> None:
    reply = called(service, message(gzip.compress(b"hello"), compressed=1), extra=[("grpc-encoding", "gzip")])
    assert (reply.status, reply.messages) == (0, [b"hello"])


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (message(b"x", compressed=1), []),
        (message(b"no gzip", compressed=1), [("grpc-encoding", "gzip")]),
        (message(gzip.compress(b"hello")[:-9], compressed=1), [("grpc-encoding", "gzip")]),
        (message(b"x", compressed=1), [("grpc-encoding", "of our own")]),
    ],
    ids=["unnamed", "not what it says", "cut", "unknown"],
)
def test_compression_that_cannot_be_undone_is_an_error(service: Service, body: bytes, encoding: list) -> None:
    assert called(service, body, extra=encoding).status in {INTERNAL, UNIMPLEMENTED}


@everywhere
@pytest.mark.parametrize(
    "messages", [[], [b"\0\0"], [message(b"x", length=10)], [b""]], ids=["none", "cut prefix", "cut", "no bytes"]
)
def test_a_call_that_half_closes_without_a_whole_message_ends_with_an_error(service: Service, messages: list) -> None:
    reply = called(service, *messages)
    assert reply.status in {UNIMPLEMENTED, INTERNAL}
    assert reply.body == b""


@everywhere
def test_a_call_that_never_half_closes_ends_by_its_deadline_at_the_latest(service: Service) -> None:
    with service.raw() as connection:
        stream = connection.open(OBEY, extra=[("grpc-timeout", "300m")])
        connection.send(stream, message(b"hello"), end=False)
        reply = connection.reply(stream)
    assert (reply.status, reply.messages) in [(0, [b"hello"]), (DEADLINE_EXCEEDED, [])]


@everywhere
def test_a_stream_counts_its_messages_until_it_half_closes(service: Service) -> None:
    if service.transport != "grpcio":
        return  # streams are carried by grpcio alone
    assert called(service, message(b"a"), message(b""), message(b"c"), path=COUNT).messages == [b"3"]
    assert called(service, path=COUNT).messages == [b"0"]
    too_large = message(b"x" * (LIMITS.max_message_bytes + 1))
    assert called(service, message(b"a"), too_large, message(b"c"), path=COUNT).status == RESOURCE_EXHAUSTED


@everywhere
@pytest.mark.parametrize(
    "extra",
    [[("x-large", "x" * 20_000)], [(f"x-{number}", "x" * 50) for number in range(500)]],
    ids=["one", "many"],
)
def test_metadata_that_is_too_large_is_no_success_and_the_connection_goes_on(service: Service, extra: list) -> None:
    reply = called(service, message(b"x"), extra=extra)
    assert reply.status == RESOURCE_EXHAUSTED or reply.http_status == 431 or reply.reset is not None
    assert reply.body == b""


@everywhere
def test_metadata_without_measure_ends_the_call_or_its_connection_and_no_other(service: Service) -> None:
    with service.raw() as beside:
        with service.raw() as connection, suppress(ConnectionGoneError):
            assert connection.call(OBEY, message(b"x"), extra=[("x-large", "x" * 200_000)]).status == RESOURCE_EXHAUSTED
        assert beside.call(OBEY, message(b"next")).messages == [b"next"]


def test_metadata_up_to_the_limit_is_taken(service: Service) -> None:
    extra = [("x-large", "x" * (LIMITS.max_metadata_bytes - 1024))]
    for _ in range(20):  # gRPC by itself refuses some of what is above half of its limit, by chance
        assert called(service, message(b"x"), extra=extra).messages == [b"x"]


@pytest.mark.parametrize("timeout", ["50m", "1n", "0n"])
def test_a_deadline_that_passes_ends_the_call_and_its_work(service: Service, timeout: str) -> None:
    reply = called(service, message(b"sleep"), extra=[("grpc-timeout", timeout)])
    assert (reply.status, reply.body) == (DEADLINE_EXCEEDED, b"")
    service.until(lambda told: told["in_flight"] == 0)


@everywhere
def test_work_that_a_deadline_has_ended_is_counted(service: Service) -> None:
    before = service.told()
    called(service, message(b"sleep"), extra=[("grpc-timeout", "300m")])
    name = "mixer_calls_given_up_total deadline"
    told = service.until(lambda told: told[name] == before[name] + 1)
    assert told["cancelled"] == before["cancelled"] + 1


def test_a_deadline_that_passes_while_the_call_waits_for_its_turn_is_counted_and_no_work_is_done(
    service: Service,
) -> None:
    before = service.told()
    with service.raw() as connection:
        held = connection.open(OBEY)
        connection.send(held, message(b"hold the loop"))
        waiting = [connection.open(OBEY, extra=[("grpc-timeout", "100m")]) for _ in range(5)]
        for stream in waiting:
            connection.send(stream, message(b"late"))
        statuses = [connection.reply(stream).status for stream in waiting]
        assert connection.reply(held).messages == [b"held"]
    refused = "mixer_calls_refused_total deadline"
    late = statuses.count(DEADLINE_EXCEEDED)
    assert late > 0
    assert late + statuses.count(0) == 5  # one or the other may come before the loop is held
    told = service.until(lambda told: told[refused] == before[refused] + late)
    assert told["started"] == before["started"] + 1 + statuses.count(0)


@pytest.mark.parametrize("timeout", ["soon", "-1S", "999999999S", "1", ""])
def test_a_deadline_that_is_none_is_an_error_or_no_deadline(service: Service, timeout: str) -> None:
    reply = called(service, message(b"x"), extra=[("grpc-timeout", timeout)])
    assert reply.status in {0, INTERNAL, INVALID_ARGUMENT}


@everywhere
@pytest.mark.parametrize("how", ["reset", "dropped"])
def test_a_cancelled_call_is_worked_on_no_longer(service: Service, how: str) -> None:
    before = service.told()
    with service.raw() as connection:
        stream = connection.open(OBEY)
        connection.send(stream, message(b"sleep"))
        service.until(lambda told: told["started"] == before["started"] + 1)
        if how == "reset":
            connection.reset(stream)
            assert connection.call(OBEY, message(b"next")).messages == [b"next"]
    given_up = "mixer_calls_given_up_total cancelled"
    told = service.until(lambda told: told["cancelled"] == before["cancelled"] + 1)
    assert told[given_up] == before[given_up] + 1
    service.until(lambda told: told["in_flight"] == 0)


@everywhere
@pytest.mark.parametrize(
    "junk",
    [
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00" + b"\0" * 200,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 200,
        b"\0" * 1000,
    ],
    ids=["HTTP/1.1", "TLS", "no frames", "zeros"],
)
def test_bytes_that_are_no_http2_end_their_connection_alone(service: Service, junk: bytes) -> None:
    with service.raw() as beside:
        connection = service.dial()
        connection.send_raw(junk)
        with pytest.raises((ConnectionGoneError, ConnectionResetError, AssertionError)):
            connection.until(lambda: False, 30)
        connection.close()
        assert beside.call(OBEY, message(b"next")).messages == [b"next"]


@everywhere
def test_one_answer_comes_to_each_of_many_calls_on_one_connection(service: Service) -> None:
    with service.raw() as connection:
        streams = {connection.open(OBEY): b"%d" % number for number in range(300)}
        for stream, body in streams.items():
            connection.send(stream, message(body))
        for stream, body in streams.items():
            assert connection.reply(stream).messages == [body]


@everywhere
def test_a_reader_that_reads_nothing_holds_up_no_other(service: Service) -> None:
    with service.raw(window=0) as slow, service.raw() as quick:
        streams = [slow.open(OBEY) for _ in range(100)]
        for stream in streams:
            slow.send(stream, message(b"a long answer"))
        for _ in range(20):
            assert quick.call(OBEY, message(b"x")).messages == [b"x"]
        assert not any(slow.replies[stream].is_over for stream in streams)
        for stream in streams:
            slow.give_window(stream, len(LONG_ANSWER) + 5)
        for stream in streams:
            assert slow.reply(stream).messages == [LONG_ANSWER]

"""Thousands at once: streams, connections and calls that are given up; what is bounded, and that all of it ends."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack, suppress

from tests.interoperability.conftest import Service, everywhere
from tests.interoperability.faulty_service import LIMITS, OBEY
from tests.parts.raw_grpc import ConnectionGoneError, RawConnection, message

UNAVAILABLE = 14
NO_ERROR, REFUSED_STREAM = 0, 7


@everywhere
def test_a_connection_is_told_how_many_calls_it_may_have_open(service: Service) -> None:
    with service.raw() as connection:
        assert connection.max_streams == LIMITS.max_streams


def test_a_client_that_does_not_care_is_refused_what_is_above_that_or_loses_its_connection(service: Service) -> None:
    with service.raw() as connection:
        connection.h2.remote_settings.max_concurrent_streams = 1 << 30
        connection.h2.remote_settings.acknowledge()
        streams = []
        with suppress(ConnectionGoneError):
            for _ in range(2 * LIMITS.max_streams):  # without a message, so that they stay open
                streams.append(connection.open(OBEY))  # noqa: PERF401 (the connection may go meanwhile)
            connection.until(lambda: any(reply.reset == REFUSED_STREAM for reply in connection.replies.values()))
        replies = [connection.replies[stream] for stream in streams]
        assert not any(reply.reads_as_success for reply in replies)
        assert {reply.reset for reply in replies} <= {None, NO_ERROR, REFUSED_STREAM}
    service.until(lambda told: told["in_flight"] == 0)


@everywhere
def test_thousands_of_calls_at_once_each_end_with_an_answer_or_unavailable_and_those_are_counted(
    service: Service,
) -> None:
    name = "mixer_calls_refused_total overloaded"
    before = service.told()
    with ExitStack() as stack:
        connections = [stack.enter_context(service.raw()) for _ in range(8)]
        calls: list[tuple[RawConnection, int, bytes]] = []
        for connection in connections:
            calls += [(connection, connection.open(OBEY), b"%d" % number) for number in range(400)]
        for connection, stream, body in calls:
            connection.send(stream, message(body))
        statuses = Counter()
        for connection, stream, body in calls:
            reply = connection.reply(stream)
            statuses[reply.status] += 1
            assert reply.messages == ([body] if reply.status == 0 else [])
    assert set(statuses) <= {0, UNAVAILABLE}
    assert statuses[0] > 0
    told = service.until(lambda told: told["in_flight"] == 0)
    assert told[name] - before[name] == statuses[UNAVAILABLE]


@everywhere
def test_thousands_of_calls_that_sleep_are_bounded(service: Service) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(service.raw()) for _ in range(4)]
        streams = []
        for connection in connections:
            for _ in range(300):
                stream = connection.open(OBEY)
                connection.send(stream, message(b"sleep"))
                streams.append((connection, stream))
        last, stream = streams[-1]
        assert last.reply(stream).status == UNAVAILABLE
        over = sum(connection.replies[stream].is_over for connection, stream in streams)
        assert over <= len(streams) - LIMITS.max_in_flight
    service.until(lambda told: told["in_flight"] == 0)


@everywhere
def test_calls_that_are_opened_and_given_up_without_end_leave_nothing_behind(service: Service) -> None:
    """Rapid reset (CVE-2023-44487): many times more calls than may be open, none of which is waited for."""
    with service.raw() as connection:
        for _ in range(5000):
            if connection.is_gone or connection.goaway is not None:
                break  # a server may also end such a connection
            stream = connection.open(OBEY, end=True)
            connection.reset(stream)
    with service.raw() as connection:
        assert connection.call(OBEY, message(b"next")).messages == [b"next"]
    service.until(lambda told: told["in_flight"] == 0)

"""However a service fails: its call ends with a status that is not OK, no secret is told, and the next call works."""

from __future__ import annotations

import grpc
import pytest

from tests.interoperability.conftest import Service, everywhere
from tests.interoperability.faulty_service import OBEY, SECRET
from tests.parts.raw_grpc import Reply, message

UNKNOWN, INVALID_ARGUMENT, INTERNAL, UNAVAILABLE = 2, 3, 13, 14
BUGS = [
    "KeyError", "ExceptionGroup", "MemoryError", "RecursionError", "StopAsyncIteration", "NativePanic", "SystemExit",
    "KeyboardInterrupt", "GeneratorExit", "CancelledError", "UntellableError", "UntellableBug",
]  # fmt: skip
NO_REPLIES = ["no reply", "a text", "a number", "a part of a reply"]


def failed(service: Service, fault: str) -> Reply:
    """The answer to a fault, after which the same connection has answered rightly."""
    with service.raw() as connection:
        reply = connection.call(OBEY, message(fault.encode()))
        assert connection.call(OBEY, message(b"next")).messages == [b"next"]
    assert not reply.reads_as_success
    assert reply.body == b""
    assert reply.http_status == 200
    assert reply.header("content-type") == "application/grpc"
    return reply


@everywhere
@pytest.mark.parametrize(
    ("fault", "status", "details"),
    [
        ("error with a status", UNKNOWN, "the policy said no"),
        ("error that is invalid", INVALID_ARGUMENT, "héllo\n100 %"),
        ("error of the store", UNAVAILABLE, "the store is away"),
        ("error that claims to be OK", INTERNAL, "all is well"),
        ("error that is no text", UNKNOWN, "half ? of a letter"),
    ],
)
def test_an_error_of_ours_ends_its_call_with_its_status_and_words(
    service: Service, fault: str, status: int, details: str
) -> None:
    reply = failed(service, fault)
    assert (reply.status, reply.details) == (status, details)


@pytest.mark.parametrize("fault", BUGS)
def test_whatever_else_is_raised_is_internal_and_only_its_class_is_told(service: Service, fault: str) -> None:
    reply = failed(service, fault)
    assert (reply.status, reply.details) == (INTERNAL, f"internal error: {fault}")


@pytest.mark.parametrize("fault", NO_REPLIES)
def test_a_reply_that_is_missing_or_no_message_is_internal(service: Service, fault: str) -> None:
    reply = failed(service, fault)
    assert (reply.status, reply.details) == (INTERNAL, "internal error: TypeError")


def test_the_log_has_what_the_wire_does_not_tell(service: Service) -> None:
    failed(service, "KeyError")
    log = service.log.read_text(encoding="utf-8")
    assert SECRET in log
    assert "Traceback" in log


@everywhere
def test_words_without_end_are_cut_so_that_the_status_arrives(service: Service) -> None:
    reply = failed(service, "error of endless length")
    assert reply.status == UNKNOWN
    assert 100 < len(reply.details) <= 1024


@everywhere
def test_no_failure_is_left_in_hand(service: Service) -> None:
    for fault in (*BUGS, *NO_REPLIES):
        failed(service, fault)
    service.until(lambda told: told["in_flight"] == 0)


@pytest.mark.parametrize("fault", [*BUGS, *NO_REPLIES])
def test_a_client_of_grpc_sees_internal_too(service: Service, fault: str) -> None:
    with service.channel() as channel, pytest.raises(grpc.RpcError) as failure:
        channel.unary_unary(OBEY)(fault.encode(), timeout=60)
    assert failure.value.code() is grpc.StatusCode.INTERNAL
    assert "internal error" in failure.value.details()

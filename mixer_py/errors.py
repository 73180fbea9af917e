"""The one tree of exceptions, each with the gRPC status that a caller sees when it ends a call.

MixerError
├── ConfigurationError        one or more faults in what a person wrote
│   └── PolicyLoadError       … in a policy or its data
├── RequestParseError         the request cannot be turned into an input document (HTTP 400)
├── EvaluationError           the policy could not be decided
│   ├── UndefinedDecisionError
│   ├── ResultError           it was decided, but its result has a wrong shape
│   └── UnknownQuotaError     its result names a quota that is not configured
├── ExpressionError           an expression has no value for these attributes
│   └── ExpressionBudgetError … because finding it would cost more than one expression may
├── InvalidRequestError       a message that its own protocol forbids
├── PermissionDeniedError     a message that this caller may not send
├── OverloadedError           more waits than we promised to hold
├── DeadlinePassedError       the caller no longer waits
├── CallerGoneError           the caller went away
├── MessageTooLargeError      a message above `max_message_bytes`
├── FramingError              bytes that gRPC's framing forbids
├── CardinalityError          not the one message that a unary call carries
├── UnsupportedEncodingError  a message compressed in a way that is not known
├── UnknownMethodError        a method that this listener does not answer
├── UnknownServiceError       a health check of a service that is not here
├── CounterStoreError         a rate-limit counter could not be kept
├── SinkError                 rows could not be written; they are kept and tried again
├── MigrationError            tables of another version that cannot be used or changed
├── SpoolError                a file of the spool cannot be read
├── QueryRefusedError         a query that a reader may not run
├── QueryFailedError          a query that the database refused
├── NotRunningError           no mixer, store or server answers where one was expected
└── ProcessError              a child process did not do what it was started for
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

# Status codes: grpc/grpc doc/statuscodes.md. Kept as numbers so that this module needs no gRPC library.
CANCELLED = 1
INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
NOT_FOUND = 5
PERMISSION_DENIED = 7
RESOURCE_EXHAUSTED = 8
FAILED_PRECONDITION = 9
UNIMPLEMENTED = 12
INTERNAL = 13
UNAVAILABLE = 14
UNKNOWN = 2


class MixerError(Exception):
    """Whatever mixer-py raises on purpose."""

    grpc_status: ClassVar[int] = INTERNAL


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in what a person wrote, where it stands, and the way out.

    Attributes:
        message: what is wrong, naming the thing.
        file: path of the file, `environment` or `command line`; empty when unknown.
        line: 1-based line in `file`; 0 when the place has no lines.
        field: dotted name of the key or element, empty when there is none.
        way_out: what to do about it; empty when the message says it all.
    """

    message: str
    file: str = ""
    line: int = 0
    field: str = ""
    way_out: str = ""

    @property
    def place(self) -> str:
        """`file:line`, or `file` where there are no lines, or nothing."""
        return f"{self.file}:{self.line}" if self.line else self.file

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.place, self.field) if part)
        text = f"{where}: {self.message}" if where else self.message
        return f"{text} ({self.way_out})" if self.way_out else text


class ConfigurationError(MixerError):
    """Faults in configuration, rules or policies, all that were found and not only the first."""

    grpc_status = FAILED_PRECONDITION

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = tuple(faults)


class PolicyLoadError(ConfigurationError):
    """A policy or its data cannot be loaded."""


class RequestParseError(MixerError):
    """A CheckRequest whose path, query or body cannot be parsed; answered with HTTP 400."""

    grpc_status = INVALID_ARGUMENT


class EvaluationError(MixerError):
    """The engine failed on a policy; `policy.on_error` says what the caller gets."""

    grpc_status = UNKNOWN


class UndefinedDecisionError(EvaluationError):
    """The decision is undefined for this input."""


class ResultError(EvaluationError):
    """The decision's value has a shape, a type or a header that the contract forbids."""


class UnknownQuotaError(EvaluationError):
    """The policy's result names a quota that `rate_limit.quotas` does not have."""


class ExpressionError(MixerError):
    """An expression has no value for the attributes it was given; what that means is for its user to say.

    Attributes:
        reason: one word for a counter: `absent` (an attribute or an entry of a map), `arithmetic` (overflow, division
            by zero), `conversion` (text that is no number, no time …), `range` (an index, a time), `budget`.
    """

    grpc_status = UNKNOWN

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class ExpressionBudgetError(ExpressionError):
    """Evaluation was stopped because it would cost more than one expression may."""


class InvalidRequestError(MixerError):
    """A message that its own protocol forbids, such as a RateLimitRequest without a domain."""

    grpc_status = INVALID_ARGUMENT


class PermissionDeniedError(MixerError):
    """A message that this caller may not send, such as negative hits of one who is not authenticated."""

    grpc_status = PERMISSION_DENIED


class OverloadedError(MixerError):
    """More than `max_in_flight` calls wait."""

    grpc_status = UNAVAILABLE


class DeadlinePassedError(MixerError):
    """The caller's deadline passed before any work was done."""

    grpc_status = DEADLINE_EXCEEDED


class CallerGoneError(MixerError):
    """The caller went away before there was an answer."""

    grpc_status = CANCELLED


class ForwardingError(MixerError):
    """Another process of this mixer was asked, and failed the call with `status`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class MessageTooLargeError(MixerError):
    """A message above `server.max_message_bytes`."""

    grpc_status = RESOURCE_EXHAUSTED


class FramingError(MixerError):
    """A body or a header that gRPC's framing forbids, such as a message that is cut off."""


class CardinalityError(MixerError):
    """A unary call that carried no message, or more than one."""

    grpc_status = UNIMPLEMENTED


class UnsupportedEncodingError(MixerError):
    """A message compressed in a way that is not known; the answer says which are."""

    grpc_status = UNIMPLEMENTED


class UnknownMethodError(MixerError):
    """A method that this listener does not answer."""

    grpc_status = UNIMPLEMENTED


class UnknownServiceError(MixerError):
    """A health check that names a service which is not here."""

    grpc_status = NOT_FOUND


class CounterStoreError(MixerError):
    """The counter store is away or full; `rate_limit.on_error` says what the caller gets.

    Attributes:
        reason: one word for `mixer_store_errors_total`, such as `timeout` or `refused`.
    """

    grpc_status = UNAVAILABLE

    def __init__(self, message: str, reason: str = "refused") -> None:
        super().__init__(message)
        self.reason = reason


class SinkError(MixerError):
    """A block of rows was not written; it is kept and tried again.

    Attributes:
        reason: one word for `mixer_store_errors_total`: `invalid` (these rows will never be taken), `away`, `timeout`,
            `disk_full`, `insert_failed`, `unverified`.
    """

    grpc_status = UNAVAILABLE

    def __init__(self, message: str, reason: str = "invalid") -> None:
        super().__init__(message)
        self.reason = reason


class MigrationError(MixerError):
    """Tables are there that this version can neither use nor change; it says what to do."""

    grpc_status = FAILED_PRECONDITION


class SpoolError(MixerError):
    """A file of the spool that cannot be read: no segment, or its header is damaged."""


class QueryRefusedError(MixerError):
    """A query that is not one read-only SELECT within its limits."""

    grpc_status = INVALID_ARGUMENT


class QueryFailedError(MixerError):
    """A permitted query that the database could not answer."""

    grpc_status = INVALID_ARGUMENT


class NotRunningError(MixerError):
    """Nothing answers at an address where a mixer or a server was expected."""

    grpc_status = UNAVAILABLE


class ProcessError(MixerError):
    """A child process failed to start, to answer or to end."""

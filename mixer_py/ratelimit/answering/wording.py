"""Answers as bytes: what never varies of a limit is serialized once, and numbers are put behind it.

Protobuf's parts may stand in any order, and parts of a message that comes twice are merged (protobuf.dev, encoding), so
an answer is a row of parts that were made before. Tags here are those of envoy/service/ratelimit/v3/rls.proto and of
google/protobuf/duration.proto. Not for: which part an answer gets (`responses.py`).
"""

from __future__ import annotations

import struct
from typing import Any, Final

from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf.struct_pb2 import Struct, Value

from mixer_py.ratelimit.algorithms import SECOND

RateLimit = Any  # envoy.service.ratelimit.v3.RateLimitResponse.RateLimit: the generated modules carry no types

UNLIMITED_REMAINING: Final = 2**32 - 1
"""`limit_remaining` of a descriptor whose rule is unlimited."""

_OK: Final = rls_pb2.RateLimitResponse.OK
_OVER_LIMIT: Final = rls_pb2.RateLimitResponse.OVER_LIMIT
_CODES: Final = {_OK: "OK", _OVER_LIMIT: "OVER_LIMIT"}
_STATUS: Final = b"\x12"
_METADATA: Final = b"\x32"
_REMAINING: Final = b"\x18"
_RESET: Final = b"\x22"
_SECONDS: Final = b"\x08"
_NUMBER: Final = struct.Struct("<d")
_ONE_BYTE: Final = {number: bytes((number,)) for number in range(128)}
_TWO_BYTES: Final = 1 << 14
_SEVEN_BITS: Final = 0x7F
_MORE: Final = 0x80


def varint(number: int) -> bytes:
    """A number as protobuf writes it.

    Raises:
        ValueError: it is negative.
    """
    short = _ONE_BYTE.get(number)
    if short is not None:
        return short
    if number < 0:
        raise ValueError(f"{number} is negative")
    if number < _TWO_BYTES:
        return bytes((number & _SEVEN_BITS | _MORE, number >> 7))
    digits = bytearray()
    while number > _SEVEN_BITS:
        digits.append(number & _SEVEN_BITS | _MORE)
        number >>= 7
    digits.append(number)
    return bytes(digits)


class Wording:
    """What answers say of one limit, made when it is first said.

    Attributes:
        within: the status of a descriptor that is let in, up to the number that remains.
        over: the same of one that is not.
        allowed: the end of an answer that this limit decides and that is OK, up to the number that remains.
        refused: the same of one that is over the limit.
    """

    __slots__ = ("_limit", "_name", "_reset", "_seconds", "allowed", "over", "refused", "within")

    within: bytes
    over: bytes
    allowed: bytes
    refused: bytes

    def __init__(self, name: str, limit: RateLimit) -> None:
        """Takes what is said.

        Args:
            name: for `mixer_limit`.
            limit: for `current_limit`; never changed.
        """
        self._name = name
        self._limit = limit
        self._seconds = 0
        self._reset = _duration(0)

    def __getattr__(self, part: str) -> bytes:
        """Makes a part when it is first needed; from then on its slot has it, and this is not called."""
        if part == "within":
            made = _status(_OK, self._limit) + _REMAINING
        elif part == "over":
            made = _status(_OVER_LIMIT, self._limit) + _REMAINING
        elif part == "allowed":
            made = _end(_OK, self._name)
        elif part == "refused":
            made = _end(_OVER_LIMIT, self._name)
        else:
            raise AttributeError(part)
        setattr(self, part, made)
        return made

    def counted(self, beginning: bytes, remaining: int, reset: int) -> bytes:
        """The status of a descriptor whose hits were charged.

        Args:
            beginning: `within` or `over`.
            remaining: hits that are left.
            reset: microseconds until nothing is counted any more; told in seconds, rounded up.

        Raises:
            ValueError: one of them is negative.
        """
        seconds = -(-reset // SECOND)
        if seconds != self._seconds:  # many counters of a limit end together
            self._reset = _duration(seconds)
            self._seconds = seconds
        left, duration = _ONE_BYTE.get(remaining) or varint(remaining), self._reset
        size = len(beginning) + len(left) + len(duration)
        return b"".join((_STATUS, _ONE_BYTE.get(size) or varint(size), beginning, left, duration))


def _duration(seconds: int) -> bytes:
    body = _SECONDS + varint(seconds)
    return _RESET + varint(len(body)) + body


def uncounted(beginning: bytes) -> bytes:
    """The status of a descriptor whose counter could not be kept: nothing is known to remain.

    Args:
        beginning: `Wording.within` or `Wording.over`.
    """
    body = beginning + varint(0)
    return _STATUS + varint(len(body)) + body


def ended(end: bytes, remaining: int) -> bytes:
    """The end of an answer.

    Args:
        end: `Wording.allowed` or `Wording.refused`.
        remaining: what is left under the limit that decides.
    """
    return end + _NUMBER.pack(remaining)


def _status(code: int, limit: RateLimit) -> bytes:
    status = rls_pb2.RateLimitResponse.DescriptorStatus(code=code, current_limit=limit)
    written: bytes = status.SerializeToString()
    return written


def _plain_status(remaining: int) -> bytes:
    status = rls_pb2.RateLimitResponse.DescriptorStatus(code=_OK, limit_remaining=remaining)
    written: bytes = rls_pb2.RateLimitResponse(statuses=[status]).SerializeToString()
    return written


UNMATCHED: Final = _plain_status(0)
"""The status of a descriptor that no limit holds."""
UNLIMITED: Final = _plain_status(UNLIMITED_REMAINING)
"""The status of a descriptor whose rule is unlimited."""


def _end(code: int, name: str) -> bytes:
    """Code and dynamic metadata of an answer, up to the number that remains, which stands last."""
    number: bytes = Struct(fields={"mixer_remaining": Value(number_value=0)}).SerializeToString()
    return _code_and_metadata(code, name, number)[: -_NUMBER.size]


def _code_and_metadata(code: int, name: str, last: bytes) -> bytes:
    fields = {"mixer_limit": Value(string_value=name), "mixer_code": Value(string_value=_CODES[code])}
    metadata = Struct(fields=fields).SerializeToString() + last
    written: bytes = rls_pb2.RateLimitResponse(overall_code=code).SerializeToString()
    return written + _METADATA + varint(len(metadata)) + metadata


UNDECIDED: Final = _code_and_metadata(_OK, "", b"")
"""The end of an answer that no limit decides."""

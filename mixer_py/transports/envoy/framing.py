"""gRPC's own part of an HTTP/2 body and its headers (grpc/grpc doc/PROTOCOL-HTTP2.md): pure functions over bytes.

Not for: reading a body, or knowing what a message means.
"""

from __future__ import annotations

import zlib
from typing import Final

from mixer_py.errors import (
    CardinalityError,
    FramingError,
    MessageTooLargeError,
    UnsupportedEncodingError,
)

PREFIX_BYTES: Final = 5
"""One byte that says whether the message is compressed, four of its length."""
ENCODINGS: Final = b"identity, deflate, gzip"
"""What `grpc-accept-encoding` says."""

_WINDOW_BITS: Final = {b"gzip": zlib.MAX_WBITS | 16, b"deflate": zlib.MAX_WBITS}
_TIMEOUT_UNITS: Final = {
    ord("H"): 3600.0,
    ord("M"): 60.0,
    ord("S"): 1.0,
    ord("m"): 1e-3,
    ord("u"): 1e-6,
    ord("n"): 1e-9,
}
_TIMEOUT_DIGITS: Final = 8
_PLAIN: Final = frozenset(range(0x20, 0x7F)) - {ord("%")}


def frame(message: bytes) -> bytes:
    """A message as the only one of a body.

    Raises:
        TypeError: it is no message: what a handler gave that gave nothing must not read as an empty one.
    """
    if type(message) is not bytes:
        raise TypeError(f"a handler answered with {type(message).__name__} instead of bytes")
    return b"\0" + len(message).to_bytes(4, "big") + message


def check_length(beginning: bytes | bytearray, most: int) -> None:
    """Looks at the beginning of a body, so that what is too large need not be read.

    Raises:
        MessageTooLargeError: the first message has more than `most` bytes.
        CardinalityError: there is more than such a message can be.
    """
    if len(beginning) >= PREFIX_BYTES:
        length = int.from_bytes(beginning[1:PREFIX_BYTES], "big")
        if length > most:
            raise MessageTooLargeError(f"the message has {length} bytes; at most {most} (server.max_message_bytes)")
        if len(beginning) > PREFIX_BYTES + length:
            raise CardinalityError("the call carried more than one message")


def unframe(body: bytes, encoding: bytes, most: int) -> bytes:
    """The only message of a whole body.

    Args:
        body: of a request.
        encoding: the header `grpc-encoding`; empty when there was none.
        most: bytes that the message may have, also when it is decompressed.

    Raises:
        MessageTooLargeError: it has more.
        CardinalityError: there is none, or more than one.
        FramingError: the body ends within it.
        UnsupportedEncodingError: it is compressed in a way that is not known.
    """
    if not body:
        raise CardinalityError("the call carried no message")
    if len(body) < PREFIX_BYTES:
        raise FramingError("the body ends within the prefix of a message")
    check_length(body, most)
    end = PREFIX_BYTES + int.from_bytes(body[1:PREFIX_BYTES], "big")
    if len(body) < end:
        raise FramingError("the body ends within a message")
    if body[0] == 0:
        return body[PREFIX_BYTES:]
    if body[0] == 1:
        return _decompressed(body[PREFIX_BYTES:], encoding, most)
    raise FramingError(f"the prefix of a message begins with {body[0]}, neither 0 nor 1")


def _decompressed(data: bytes, encoding: bytes, most: int) -> bytes:
    if encoding in {b"", b"identity"}:
        raise FramingError("the message is marked as compressed, and grpc-encoding names no way")
    bits = _WINDOW_BITS.get(encoding)
    if bits is None:
        raise UnsupportedEncodingError(f"grpc-encoding {encoding.decode('latin-1')!r} is not known")
    inflater = zlib.decompressobj(bits)
    try:
        message = inflater.decompress(data, most + 1)
    except zlib.error as error:
        raise FramingError(f"the message cannot be decompressed: {error}") from None
    if len(message) > most:
        raise MessageTooLargeError(f"the message has over {most} bytes decompressed (server.max_message_bytes)")
    if not inflater.eof:
        raise FramingError("the compressed message is cut off")
    if inflater.unused_data:
        raise FramingError("more follows the compressed message")
    return message


def timeout_seconds(value: bytes) -> float:
    """The header `grpc-timeout`: up to eight digits and a unit.

    Raises:
        FramingError: it is none.
    """
    digits, unit = value[:-1], _TIMEOUT_UNITS.get(value[-1]) if value else None
    if unit is None or not digits.isdigit() or len(digits) > _TIMEOUT_DIGITS:
        raise FramingError(f"grpc-timeout {value.decode('latin-1')!r} is not a time")
    return int(digits) * unit


def percent_encoded(message: str) -> bytes:
    """Text as the header `grpc-message` carries it: UTF-8, with all but printable ASCII percent-encoded."""
    return b"".join(
        bytes((byte,)) if byte in _PLAIN else b"%%%02X" % byte for byte in message.encode("utf-8", "replace")
    )

"""Finds what is sound in messages that do not decode as a whole.

A malformed message fails a whole batch, so it is searched for by halves; inside the one bad message the outer wire
format is walked by hand, and its entries are searched in the same way. A bad entry costs itself alone.
Not for: decoding (`projection.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

HTTP_LOGS: Final = 2
TCP_LOGS: Final = 3
LOG_ENTRY: Final = 1
_LENGTH_DELIMITED: Final = 2
_FIXED: Final = {1: 8, 5: 4}  # wire type to bytes
_VARINT_BYTES: Final = 10

Decodes = Callable[[Sequence[bytes]], bool]


class _TruncatedError(Exception):
    """The bytes end, or stop making sense, at this place."""


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at `position` and the position behind it."""
    value = 0
    for index in range(_VARINT_BYTES):
        if position + index >= len(data):
            break
        byte = data[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # the last byte of a varint has no continuation bit
            return value, position + index + 1
    raise _TruncatedError


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of each length-delimited field; others are stepped over.

    Raises:
        _TruncatedError: the rest makes no sense; what came before it was good.
    """
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise _TruncatedError
        if wire_type == 0:
            _, position = _varint(data, position)
        elif wire_type in _FIXED:
            position += _FIXED[wire_type]
        elif wire_type == _LENGTH_DELIMITED:
            length, position = _varint(data, position)
            content = data[position : position + length]
            position += length
            yield number, content
        else:
            raise _TruncatedError
    if position > len(data):
        raise _TruncatedError


def _encoded(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    length, prefix = len(content), bytearray([number << 3 | _LENGTH_DELIMITED])
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + content


def _readable(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields before the place where the bytes stop making sense."""
    with contextlib.suppress(_TruncatedError):
        yield from _fields(data)


def _entries(message: bytes) -> list[tuple[int, bytes]]:
    """Each entry's kind, and the entry as a message of its own."""
    return [
        (kind, _encoded(kind, _encoded(LOG_ENTRY, entry)))
        for kind, logs in _readable(message)
        if kind in {HTTP_LOGS, TCP_LOGS}
        for number, entry in _readable(logs)
        if number == LOG_ENTRY
    ]


def _sound(messages: Sequence[bytes], decodes: Decodes) -> list[bool]:
    """Which messages decode; a run of good ones costs one attempt."""
    if not messages or decodes(messages):
        return [True] * len(messages)
    if len(messages) == 1:
        return [False]
    middle = len(messages) // 2
    return _sound(messages[:middle], decodes) + _sound(messages[middle:], decodes)


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What was found.

    Attributes:
        kept: messages that decode, each with the index of the one it comes from.
        malformed_http: HTTP entries that cannot be read; a message in which no malformed entry can be pointed at
            counts as one.
        malformed_tcp: TCP entries that cannot be read.
    """

    kept: Sequence[tuple[int, bytes]]
    malformed_http: int
    malformed_tcp: int


def salvage(messages: Sequence[bytes], decodes: Decodes) -> Salvaged:
    """What can be read of messages of which at least one is malformed.

    Args:
        messages: StreamAccessLogsMessages.
        decodes: whether all of these messages decode together.
    """
    kept: list[tuple[int, bytes]] = []
    malformed = {HTTP_LOGS: 0, TCP_LOGS: 0}
    for index, (message, good) in enumerate(zip(messages, _sound(messages, decodes), strict=True)):
        if good:
            kept.append((index, message))
            continue
        entries = _entries(message)
        verdicts = _sound([entry for _, entry in entries], decodes)
        kept.extend((index, entry) for (_, entry), fine in zip(entries, verdicts, strict=True) if fine)
        bad = [kind for (kind, _), fine in zip(entries, verdicts, strict=True) if not fine]
        for kind in bad or (HTTP_LOGS,):
            malformed[kind] += 1
    return Salvaged(kept, malformed[HTTP_LOGS], malformed[TCP_LOGS])


def pieces(message: bytes, size: int) -> Sequence[bytes]:
    """A large message as several of about `size` bytes with the same entries in the same order.

    One that cannot be walked to its end, or that holds one entry alone, stays as it is.
    """
    parts: list[bytearray] = [bytearray()]
    try:
        for kind, logs in _fields(message):
            if kind not in {HTTP_LOGS, TCP_LOGS}:
                continue
            for number, entry in _fields(logs):
                if number == LOG_ENTRY:
                    if parts[-1] and len(parts[-1]) + len(entry) > size:
                        parts.append(bytearray())
                    parts[-1] += _encoded(kind, _encoded(LOG_ENTRY, entry))
    except _TruncatedError:
        return (message,)
    return [bytes(part) for part in parts] if len(parts) > 1 else (message,)


def first_field(message: bytes, number: int) -> bytes | None:
    """Content of the first length-delimited field of that number, or None; what follows it is not looked at."""
    return next((content for found, content in _readable(message) if found == number), None)

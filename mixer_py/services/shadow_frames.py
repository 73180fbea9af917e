"""Frames between a worker and the process of a candidate policy: checks there, verdicts back, in any order.

    check    8-byte number, 8-byte float: monotonic seconds after which nobody waits, 4-byte length, CheckRequest
    verdict  8-byte number, 4-byte length, JSON [verdict, rule, reasons, revision]
    goodbye  number 0, length 0: the process ends; it answers what it has, and another listens where it did

Not for: what either side does with them.
"""

from __future__ import annotations

import struct
from typing import Final

import orjson

from mixer_py.errors import InvalidRequestError
from mixer_py.telemetry.decision_record import ShadowOutcome

CHECK: Final = struct.Struct("!QdI")
VERDICT: Final = struct.Struct("!QI")
GOODBYE: Final = VERDICT.pack(0, 0)
MOST_VERDICT_BYTES: Final = 64 << 10
"""Bytes of a verdict as JSON."""
VERDICTS: Final = frozenset({"allow", "deny", "error"})
_MOST_CHARACTERS: Final = 2000
"""Of a rule and of reasons."""


def encode_check(number: int, expires: float, message: bytes) -> bytes:
    """One check; `expires` is on the clock `time.monotonic`, which all processes of a machine share."""
    return CHECK.pack(number, expires, len(message)) + message


def encode_verdict(number: int, outcome: ShadowOutcome) -> bytes:
    """One verdict, with what is too long in it cut."""
    rule, reasons = outcome.rule[:_MOST_CHARACTERS], outcome.reasons[:_MOST_CHARACTERS]
    # A policy's text may hold lone surrogates, which are no JSON.
    texts = [text.encode(errors="replace").decode() for text in (outcome.verdict, rule, reasons, outcome.revision)]
    body = orjson.dumps(texts)
    return VERDICT.pack(number, len(body)) + body


def decode_verdict(body: bytes) -> ShadowOutcome:
    """What `encode_verdict` made, behind its number and length.

    Raises:
        InvalidRequestError: it is no verdict.
    """
    try:
        texts = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError(f"a candidate's verdict is no JSON: {error}") from error
    if not isinstance(texts, list) or len(texts) != 4 or not all(isinstance(text, str) for text in texts):
        raise InvalidRequestError("a candidate's verdict is not four texts")
    if texts[0] not in VERDICTS:
        raise InvalidRequestError(f"a candidate's verdict is {texts[0]!r}, none of {', '.join(sorted(VERDICTS))}")
    return ShadowOutcome(*texts)

"""What a caller is told of a call that raised, whatever carries it: a status that is not OK, and some words."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Final

from mixer_py.errors import INTERNAL, ForwardingError, MixerError

_MOST_DETAILS: Final = 1024
"""Characters: clients refuse headers and trailers that are too large, and would not see the status either."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The end of a call.

    Attributes:
        status: gRPC's, never OK.
        details: the words.
        is_meant: it was raised on purpose; what was not is a defect, of which the log tells more.
    """

    status: int
    details: str
    is_meant: bool


def refusal(error: BaseException) -> Refusal:
    """What to tell of an exception of any class; a panic of a native library is no `Exception`, too."""
    if isinstance(error, MixerError):
        status = error.status if isinstance(error, ForwardingError) else error.grpc_status
        with contextlib.suppress(Exception):  # it has no words, which is a defect
            return Refusal(status or INTERNAL, str(error)[:_MOST_DETAILS], is_meant=True)
    return Refusal(INTERNAL, f"internal error: {type(error).__name__}"[:_MOST_DETAILS], is_meant=False)

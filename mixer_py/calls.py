"""What a transport tells a service about a call, besides its bytes. The one thing that both rooms know."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Call:
    """One call as its transport sees it.

    Attributes:
        deadline: `Clock.monotonic` seconds after which the caller no longer waits; None when it waits for ever.
        authenticated: whether it is known who calls: on a unix socket, whose file decides who may connect, or by a
            client certificate that was verified.
    """

    deadline: float | None = None
    authenticated: bool = False


UnaryHandler = Callable[[bytes, Call], Awaitable[bytes]]
"""Serialized request in, serialized response out; a `MixerError` ends the call with its status."""

ClientStreamHandler = Callable[[AsyncIterator[bytes], Call], Awaitable[bytes]]
"""Serialized requests in, one serialized response out when the client half-closes."""

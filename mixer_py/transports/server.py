"""What a worker does with a listener, whatever carries its calls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from mixer_py.transports.forwarding import Forwarder


class Server(Protocol):
    """One listener."""

    async def start(self) -> None:
        """Binds and accepts.

        Raises:
            ProcessError: the address cannot be bound.
        """

    def forward(self, forwarder: Forwarder) -> None:
        """Lets another process answer every unary call that is not being answered yet."""

    async def give_way(self) -> None:
        """Takes no new connections, for a successor listens; who was about to connect here is let in before.

        The connections that there are stay until they have a reason to end.
        """

    async def refuse_new(self) -> None:
        """Tells health checkers that this listener is going away."""

    async def tell_health(self, names: Iterable[str], *, serving: bool) -> None:
        """Tells health checkers that ask for these names, where this listener has them, until it goes away."""

    async def stop(self, grace: float) -> None:
        """Asks clients to go, and lets calls in flight end for up to `grace` seconds."""

"""Hand unary calls on to another process that answers them: what a worker does whose successor has taken over.

Its connections stay as they are until each has reached its age and is made anew with the successor. To end them at
once would lose the calls that are on their way: gRPC cancels what reaches a server that is stopping.
"""

from __future__ import annotations

import grpc

from mixer_py.calls import Call, UnaryHandler
from mixer_py.errors import ForwardingError
from mixer_py.instruments import Clock

VOUCHER = "mixer-authenticated"
"""In the metadata of a call that is handed on: its caller is authenticated. Believed only where nobody but a worker of
the same mixer can connect."""


class Forwarder:
    """A connection to the process that answers."""

    def __init__(self, address: str, max_message_bytes: int, clock: Clock) -> None:
        """Prepares it; the connection is made with the first call.

        Args:
            address: a gRPC target.
            max_message_bytes: of an answer.
            clock: that of the calls' deadlines.
        """
        self._clock = clock
        self._channel = grpc.aio.insecure_channel(
            address,
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", max_message_bytes),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.max_reconnect_backoff_ms", 500),
            ],
        )

    def handler(self, method: str) -> UnaryHandler:
        """What answers a method: the other process."""
        ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(method)
        clock = self._clock
        vouchers = {True: ((VOUCHER, "1"),), False: None}

        async def forward(message: bytes, call: Call) -> bytes:
            timeout = None if call.deadline is None else call.deadline - clock.monotonic()
            try:
                # A connection that ages is made anew meanwhile, and a worker that died is replaced.
                answer: bytes = await ask(
                    message, timeout=timeout, wait_for_ready=timeout is not None, metadata=vouchers[call.authenticated]
                )
            except grpc.aio.AioRpcError as error:
                raise ForwardingError(error.code().value[0], error.details() or "") from None
            return answer

        return forward

    async def close(self, grace: float) -> None:
        """Ends the connection once the calls that it carries are answered, after `grace` seconds at the latest."""
        await self._channel.close(grace)

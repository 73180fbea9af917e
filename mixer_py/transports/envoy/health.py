"""The standard health service's unary method (grpc/grpc doc/health-checking.md), bytes in and bytes out.

Its `Watch` is a stream, which this transport does not carry: a client that watches is told UNIMPLEMENTED, and then
takes the server for well, as that document has it.
"""

from __future__ import annotations

from collections.abc import Iterable

from grpc_health.v1 import health_pb2

from mixer_py.calls import Call
from mixer_py.errors import InvalidRequestError, UnknownServiceError

METHOD = "/grpc.health.v1.Health/Check"

_ANSWERS = {
    serving: health_pb2.HealthCheckResponse(
        status=health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
    ).SerializeToString()
    for serving in (True, False)
}


class Health:
    """What health checkers are told, by the name of a service."""

    def __init__(self, names: Iterable[str]) -> None:
        self._serving = dict.fromkeys(names, True)

    def tell(self, names: Iterable[str], *, serving: bool) -> None:
        """From now on those of the names that are known here are well, or not."""
        self._serving.update((name, serving) for name in names if name in self._serving)

    def tell_all(self, *, serving: bool) -> None:
        """The same for every name."""
        self._serving = dict.fromkeys(self._serving, serving)

    async def check(self, message: bytes, _call: Call) -> bytes:
        """Answers a HealthCheckRequest.

        Raises:
            InvalidRequestError: it is none.
            UnknownServiceError: it names a service that is not here.
        """
        try:
            name: str = health_pb2.HealthCheckRequest.FromString(message).service
        except ValueError:  # protobuf's DecodeError
            raise InvalidRequestError("the message is no HealthCheckRequest") from None
        if name not in self._serving:
            raise UnknownServiceError(f"no service {name!r} is here")
        return _ANSWERS[self._serving[name]]

"""The services that every gRPC server may have, health and reflection, for those who may call them.

What they answer is grpcio's own code. Not for: who is well, which `runtime/health.py` watches.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]

Admit = Callable[["Context"], Awaitable[None]]
"""Lets a call through, or ends it."""


class GuardedHealth(health.aio.HealthServicer):
    """Health (grpc/grpc doc/health-checking.md). Its method `List` grpcio answers UNIMPLEMENTED."""

    def __init__(self, admit: Admit) -> None:
        super().__init__()
        self._admit = admit

    async def Check(  # noqa: N802 (the service's name for it)
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """How a service is now."""
        await self._admit(context)
        return await super().Check(request, context)

    async def Watch(  # noqa: N802 (the service's name for it)
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> None:
        """How it is now, and each time that this changes."""
        await self._admit(context)
        await super().Watch(request, context)


class GuardedReflection(reflection.aio.ReflectionServicer):
    """Reflection (grpc/grpc doc/server-reflection.md)."""

    def __init__(self, services: Sequence[str], admit: Admit) -> None:
        super().__init__(services)
        self._admit = admit

    async def ServerReflectionInfo(  # type: ignore[override]  # noqa: N802 (its stub forgets that it yields; the service's name)
        self, request_iterator: AsyncIterable[reflection_pb2.ServerReflectionRequest], context: Context
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        """What services there are, and their messages."""
        await self._admit(context)
        answers: AsyncIterator[reflection_pb2.ServerReflectionResponse]
        answers = super().ServerReflectionInfo(request_iterator, context)  # type: ignore[assignment]  # the same
        async for answer in answers:
            yield answer

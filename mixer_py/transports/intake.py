"""Take unary calls from gRPC's C core as fast as they come.

grpc.aio asks the core for one call at a time and for the next one when it has been told of it: a way through the core,
its polling thread, and the event loop for each call. Here many are asked for at once, so that calls that come
together are handed over together, in one turn of the loop. What becomes of a call then is up to grpc.aio as before.

This uses names of grpc.aio that are not public, so the version of grpcio is pinned to one, and tests/transports fail
where a name is gone or means something else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # untyped

MOST_ASKED_FOR: Final = 32
"""Calls of a method that the core may hand over in one turn. More are no faster (docs/performance.md)."""


class Intake:
    """The calls of some unary methods of one server."""

    def __init__(
        self,
        server: grpc.aio.Server,
        handlers: Mapping[str, grpc.RpcMethodHandler[bytes, bytes]],
        asked_for: int,
        ended: Callable[[asyncio.Task[None]], None],
    ) -> None:
        """Registers the methods, without which the core does not tell apart what it hands over.

        Args:
            server: not started yet.
            handlers: by full method name; to gRPC each is a stream of requests with one answer.
            asked_for: how many calls of a method to ask for at a time; grpc.aio asks for one more.
            ended: told of a task that asks no more; it has raised, unless the server stops.
        """
        self._core: Any = server._server  # type: ignore[attr-defined]  # noqa: SLF001
        self._handlers = dict(handlers)
        self._asked_for = asked_for
        self._ended = ended
        self._tasks: set[asyncio.Task[None]] = set()
        for method, handler in self._handlers.items():
            _, service, name = method.split("/")
            server.add_registered_method_handlers(service, {name: handler})

    def start(self) -> None:
        """Begins to ask, once the server has started."""
        for method, handler in self._handlers.items():
            for _ in range(self._asked_for):
                self._keep(self._take(method, handler)).add_done_callback(self._ended)

    async def _take(self, method: str, handler: grpc.RpcMethodHandler[bytes, bytes]) -> None:
        core, name, loop = self._core, method.encode(), asyncio.get_running_loop()
        while core.is_running():
            try:
                call = await core._request_registered_call(name)  # noqa: SLF001
            except cygrpc._RequestCallError:  # noqa: SLF001
                continue  # the server stops; `is_running` says so
            answering = cygrpc._handle_stream_unary_rpc(handler, call, loop)  # noqa: SLF001
            self._keep(cygrpc._schedule_rpc_coro(answering, call, loop, method))  # noqa: SLF001

    def _keep(self, coroutine: Any) -> asyncio.Task[None]:  # noqa: ANN401 (a coroutine of Cython)
        task: asyncio.Task[None] = asyncio.create_task(coroutine)
        self._tasks.add(task)  # the loop itself holds a task weakly
        task.add_done_callback(self._tasks.discard)
        return task

"""The floor of the transport: a grpc.aio server on uvloop that parses the request and answers a constant.

It takes in access logs too, and throws them away unread. Whatever mixer does besides costs on top of this.
Run as `python benchmarks/floor.py HOST:PORT`.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator

import grpc
import uvloop
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitRequest, RateLimitResponse
from payloads import ACCESS_LOG_METHOD, CHECK_METHOD, RATE_LIMIT_METHOD


class _Floor(grpc.GenericRpcHandler):
    def __init__(self) -> None:
        self._answer = CheckResponse(ok_response={}).SerializeToString()
        self._within_limit = RateLimitResponse(overall_code=RateLimitResponse.OK).SerializeToString()
        self._handlers = {
            CHECK_METHOD: grpc.unary_unary_rpc_method_handler(self._check),
            RATE_LIMIT_METHOD: grpc.unary_unary_rpc_method_handler(self._should_rate_limit),
            ACCESS_LOG_METHOD: grpc.stream_unary_rpc_method_handler(self._access_log),
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handlers.get(handler_call_details.method)

    async def _check(self, message: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        CheckRequest.FromString(message)
        return self._answer

    async def _should_rate_limit(self, message: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        RateLimitRequest.FromString(message)
        return self._within_limit

    async def _access_log(self, messages: AsyncIterator[bytes], _context: grpc.aio.ServicerContext) -> bytes:
        async for _ in messages:
            pass
        return b""


async def _serve(address: str) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([_Floor()])
    server.add_insecure_port(address)
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(1)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(sys.argv[1]))

"""The floor of the transport: a grpc.aio server on uvloop that parses the CheckRequest and answers a constant.

Whatever mixer does besides costs on top of this. Run as `python benchmarks/floor.py HOST:PORT`.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import grpc
import uvloop
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from payloads import CHECK_METHOD


class _Floor(grpc.GenericRpcHandler):
    def __init__(self) -> None:
        self._answer = CheckResponse(ok_response={}).SerializeToString()
        self._handler = grpc.unary_unary_rpc_method_handler(self._check)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handler if handler_call_details.method == CHECK_METHOD else None

    async def _check(self, message: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        CheckRequest.FromString(message)
        return self._answer


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

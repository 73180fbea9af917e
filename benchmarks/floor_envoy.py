"""The floor of the transport envoy: pyvoy in an Envoy, whose application parses the request and answers a constant.

It does of gRPC only what an answer needs: no deadlines, no limits, no failures. Whatever mixer does besides costs on
top of this. Run as `python benchmarks/floor_envoy.py HOST:PORT`, which becomes an Envoy that loads this module again.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitRequest, RateLimitResponse
from payloads import CHECK_METHOD, RATE_LIMIT_METHOD

from mixer_py.transports.envoy.answering import Event, Receive, Send
from mixer_py.transports.envoy.files import HostFiles
from mixer_py.transports.envoy.host import EnvoyHost
from mixer_py.transports.envoy.inside import Inside
from mixer_py.transports.envoy.process import become_envoy
from mixer_py.transports.envoy.resources import Manners, listener, tcp

_FOLDER, _ADDRESS = "FLOOR_FOLDER", "FLOOR_ADDRESS"
_PREFIX_BYTES = 5
_MOST_BYTES = 4 << 20
_MOST_STREAMS = 1000
_MOST_METADATA = 16 << 10
_MOST_WAITING = 10_000


def _framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


_KINDS = {
    CHECK_METHOD: (CheckRequest, _framed(CheckResponse(ok_response={}).SerializeToString())),
    RATE_LIMIT_METHOD: (
        RateLimitRequest,
        _framed(RateLimitResponse(overall_code=RateLimitResponse.OK).SerializeToString()),
    ),
}
_HEADERS = [(b"content-type", b"application/grpc")]
_OK = [(b"grpc-status", b"0")]


async def _answer(scope: Event, receive: Receive, send: Send) -> None:
    kind, answer = _KINDS[scope["path"]]
    event = await receive()
    body: bytes = event["body"]
    while event["more_body"]:
        event = await receive()
        body += event["body"]
    kind.FromString(body[_PREFIX_BYTES:])
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS, "trailers": True})
    await send({"type": "http.response.body", "body": answer})
    await send({"type": "http.response.trailers", "headers": _OK})


async def _serve(host: EnvoyHost, stop: asyncio.Event) -> int:
    ip, _, port = os.environ[_ADDRESS].rpartition(":")
    name, application = host.take(_answer)
    await host.add(
        name,
        listener(
            name,
            [tcp(ip, int(port), both_families=False)],
            application,
            Manners(_MOST_BYTES, 0, _MOST_STREAMS, _MOST_METADATA, _MOST_WAITING),
        ),
    )
    await stop.wait()
    return 0


if __name__ == "__main__":
    folder = Path(tempfile.mkdtemp(prefix="floor-")) / "files"
    become_envoy(HostFiles(folder), "floor_envoy", "floor", {_FOLDER: str(folder), _ADDRESS: sys.argv[1]})
elif _FOLDER in os.environ:  # inside Envoy
    _INSIDE = Inside(HostFiles(Path(os.environ[_FOLDER])), __name__, _serve)

    def __getattr__(name: str) -> object:
        return _INSIDE.find(name)

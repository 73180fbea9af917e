"""Envoy's three services as a client without Envoy calls them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
from envoy.service.accesslog.v3 import als_pb2
from envoy.service.auth.v3 import external_auth_pb2
from envoy.service.ratelimit.v3 import rls_pb2

from tests.parts.certificates import Certificate

SECONDS = 60.0


class Client:
    """One channel to a mixer."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._check = channel.unary_unary(
            "/envoy.service.auth.v3.Authorization/Check",
            request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
            response_deserializer=external_auth_pb2.CheckResponse.FromString,
        )
        self._limit = channel.unary_unary(
            "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
            request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
            response_deserializer=rls_pb2.RateLimitResponse.FromString,
        )
        self._log = channel.stream_unary(
            "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs",
            request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
            response_deserializer=als_pb2.StreamAccessLogsResponse.FromString,
        )

    def check(
        self, request: external_auth_pb2.CheckRequest | bytes, seconds: float = SECONDS
    ) -> external_auth_pb2.CheckResponse:
        """One decision; raises grpc.RpcError."""
        return self._check(request, timeout=seconds)

    def check_later(self, request: external_auth_pb2.CheckRequest, seconds: float = SECONDS) -> grpc.Future:
        """One decision that is waited for later."""
        return self._check.future(request, timeout=seconds)

    def limit(self, request: rls_pb2.RateLimitRequest | bytes, seconds: float = SECONDS) -> rls_pb2.RateLimitResponse:
        """One rate-limit question; raises grpc.RpcError."""
        return self._limit(request, timeout=seconds)

    def log(
        self, messages: Iterable[als_pb2.StreamAccessLogsMessage | bytes], seconds: float = SECONDS
    ) -> als_pb2.StreamAccessLogsResponse:
        """One log stream that is half-closed after these messages; its answer."""
        return self._log(iter(messages), timeout=seconds)


@contextmanager
def connect(address: str, credentials: grpc.ChannelCredentials | None = None) -> Iterator[Client]:
    """A client with a connection of its own; it is made anew quickly when mixer was away. Plaintext by default."""
    options = (
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 10_000),  # how long an attempt may take, also on a busy machine
        ("grpc.max_reconnect_backoff_ms", 200),
    )
    made = (
        grpc.insecure_channel(address, options=options)
        if credentials is None
        else grpc.secure_channel(address, credentials, options=options)
    )
    with made as channel:
        yield Client(channel)


def credentials(authority: Path, shown: Certificate | None = None) -> grpc.ChannelCredentials:
    """TLS that believes an authority and shows a certificate, or none."""
    pair = (None, None) if shown is None else (shown.key.read_bytes(), shown.certificate.read_bytes())
    return grpc.ssl_channel_credentials(authority.read_bytes(), *pair)


def check_request(
    path: str = "/", *, method: str = "GET", headers: dict[str, str] | None = None
) -> external_auth_pb2.CheckRequest:
    """A CheckRequest as Envoy sends it for a small HTTP request."""
    request = external_auth_pb2.CheckRequest()
    http = request.attributes.request.http
    http.method, http.path, http.host, http.scheme, http.protocol = method, path, "test", "http", "HTTP/1.1"
    http.headers.update({":method": method, ":path": path, ":authority": "test", **(headers or {})})
    return request

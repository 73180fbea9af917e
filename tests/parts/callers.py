"""Clients that call a mixer on and on from threads, and keep what they were told."""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Self

import grpc
from envoy.service.ratelimit.v3 import rls_pb2

from tests.parts.grpc_client import check_request, connect


def limit_request(tenant: str) -> rls_pb2.RateLimitRequest:
    request = rls_pb2.RateLimitRequest(domain="mesh")
    descriptor = request.descriptors.add()
    for key, value in (("tenant", tenant), ("service", "reviews")):
        descriptor.entries.add(key=key, value=value)
    return request


class OnAndOn:
    """Threads that work until the end of their `with`: as long as `_done` is not set."""

    def __init__(self, works: Iterable[Callable[[], None]]) -> None:
        self._done = threading.Event()
        self._threads = [threading.Thread(target=work) for work in works]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()


class Callers(OnAndOn):
    """Threads that call on and on: some keep their connection, one makes a new one for every call."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        self.address = address
        self.credentials = credentials
        self.seen: Counter[str] = Counter()
        self.revisions: defaultdict[str, set[str]] = defaultdict(set)
        self.charged = 0
        self.failures: list[grpc.RpcError] = []
        self.slowest = 0.0
        works = (self._check_on_and_on, self._check_on_and_on, self._connect_anew, self._charge_on_and_on)
        super().__init__(functools.partial(self._guarded, work) for work in works)

    def _guarded(self, work) -> None:
        try:
            work()
        except grpc.RpcError as error:
            self.failures.append(error)

    def _check_on_and_on(self) -> None:
        with connect(self.address, self.credentials) as client:
            while not self._done.is_set():
                begun = time.monotonic()
                response = client.check(check_request())
                self.slowest = max(self.slowest, time.monotonic() - begun)
                version = response.ok_response.headers[0].header.value
                self.seen[version] += 1
                self.revisions[version].add(response.dynamic_metadata.fields["mixer_revision"].string_value)

    def _connect_anew(self) -> None:
        while not self._done.is_set():
            with connect(self.address, self.credentials) as client:
                client.check(check_request())

    def _charge_on_and_on(self) -> None:
        with connect(self.address, self.credentials) as client:
            while not self._done.is_set():
                client.limit(limit_request("busy"))
                self.charged += 1

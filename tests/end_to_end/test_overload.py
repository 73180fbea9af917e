"""More than mixer can take, through the shipped Envoy: a burst is carried; of a flood Envoy itself stops the rest."""

from __future__ import annotations

import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from mixer_py.config import ServerSettings
from tests.parts.envoy_proxy import EnvoyProxy
from tests.parts.mixer_process import Mixer, eventually

pytestmark = pytest.mark.envoy

MOST = ServerSettings().max_waiting
"""What the shipped Envoy lets be open at one time: tests/deploy/test_envoy.py."""
BURST = 100
FLOOD = MOST + 100
REQUEST = b"GET / HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\r\n"
TOTAL, DENIED = "http.http.downstream_rq_total", "http.http.downstream_rq_4xx"
OVERFLOWS = ("cluster.mixer.upstream_rq_active_overflow", "cluster.mixer.upstream_rq_pending_overflow")
"""Which of the two grows depends on whether a connection to mixer was there already."""
PATIENCE = 180.0


@pytest.fixture(params=["grpcio", "envoy"])
def mixer(request, make_mixer) -> Mixer:
    mixer: Mixer = make_mixer()
    if request.param == "envoy":
        mixer.use_envoy()
    mixer.configure({"policy": {"bundles": ["policy"]}, "server": {"max_hang": "1h"}})
    mixer.start()
    return mixer


@pytest.fixture
def envoy(mixer: Mixer, make_envoy) -> EnvoyProxy:
    envoy: EnvoyProxy = make_envoy(mixer)
    envoy.start()
    eventually(lambda: envoy.request("/").status == 200, "an answer")
    return envoy


class Crowd:
    """Requests that were sent at one moment, each on a connection of its own."""

    def __init__(self, port: int, size: int, stack: ExitStack) -> None:
        self._connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE)) for _ in range(size)
        ]
        for connection in self._connections:
            connection.sendall(REQUEST)

    def statuses(self) -> Counter[bytes]:
        """How many were answered with each status."""
        return Counter(_whole(connection).split(b" ", 2)[1] for connection in self._connections)


def _whole(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def overflows(envoy: EnvoyProxy) -> float:
    return sum(envoy.stats(name).get(name, 0) for name in OVERFLOWS)


@contextmanager
def stands_still(mixer: Mixer) -> Iterator[None]:
    (worker,) = mixer.workers(1)
    os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


def test_a_burst_is_answered_whole(envoy: EnvoyProxy):
    with ExitStack() as stack:
        assert Crowd(envoy.port, BURST, stack).statuses() == {b"200": BURST}
    assert overflows(envoy) == 0


def test_a_burst_that_meets_a_mixer_that_stands_still_waits_for_it(envoy: EnvoyProxy, mixer: Mixer):
    before = envoy.stats(TOTAL)[TOTAL]
    with ExitStack() as stack:
        with stands_still(mixer):
            crowd = Crowd(envoy.port, BURST, stack)
            eventually(lambda: envoy.stats(TOTAL)[TOTAL] == before + BURST, "all of them in Envoy")
        assert crowd.statuses() == {b"200": BURST}
    assert overflows(envoy) == 0


def test_of_a_flood_envoy_refuses_what_mixer_could_not_take_and_mixer_answers_the_rest(envoy: EnvoyProxy, mixer: Mixer):
    before = envoy.stats(TOTAL)[TOTAL]
    with ExitStack() as stack:
        with stands_still(mixer):
            crowd = Crowd(envoy.port, FLOOD, stack)
            eventually(lambda: envoy.stats(TOTAL)[TOTAL] == before + FLOOD, "all of them in Envoy")
            eventually(lambda: envoy.stats(DENIED).get(DENIED, 0) >= FLOOD - MOST, "what Envoy refuses meanwhile")
        statuses = crowd.statuses()
    refused = statuses[b"403"]
    assert statuses == {b"200": FLOOD - refused, b"403": refused}, "status_on_error for those that were refused"
    assert refused in (FLOOD - MOST, FLOOD - MOST + 1), "the log stream is one of those that are open"
    assert overflows(envoy) > 0
    assert envoy.request("/").status == 200

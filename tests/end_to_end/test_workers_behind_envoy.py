"""Several workers behind the shipped Envoy: it opens enough connections, and a lost worker costs no request."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from tests.parts.mixer_process import Mixer, eventually

pytestmark = pytest.mark.envoy

ENDPOINTS = 8
"""How often the shipped configuration names mixer; the tests' Envoy has one thread."""


@pytest.fixture
def mixer(make_mixer) -> Mixer:
    mixer: Mixer = make_mixer()
    mixer.configure({"policy": {"bundles": ["policy"]}, "server": {"workers": 2}})
    mixer.start()
    return mixer


def test_the_shipped_configuration_opens_eight_connections_a_thread_and_uses_them_in_turn(mixer, make_envoy):
    envoy = make_envoy(mixer)
    envoy.start()
    eventually(lambda: mixer.connections() and sum(mixer.connections().values()) >= ENDPOINTS, "health checks")
    for _ in range(5 * ENDPOINTS):
        assert envoy.request("/").status == 200
    stats = envoy.stats("cluster.mixer.upstream_cx_total")
    assert stats["cluster.mixer.upstream_cx_total"] == ENDPOINTS
    assert sum(mixer.connections().values()) == 2 * ENDPOINTS, "one for requests and one for health checks each"
    assert all(mixer.connections().values()), mixer.connections()


def test_a_killed_worker_costs_no_request_through_envoy(mixer, make_envoy):
    envoy = make_envoy(mixer)
    envoy.start()
    eventually(lambda: envoy.request("/").status == 200, "an answer")
    statuses: list[int] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            statuses.append(envoy.request("/").status)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: len(statuses) >= 50, "50 answers")
        os.kill(mixer.workers(2)[0], signal.SIGKILL)
        eventually(lambda: mixer.metric("mixer_worker_restarts_total", reason="killed") == 1, "a replaced worker")
        before = len(statuses)
        eventually(lambda: len(statuses) >= before + 50, "50 more")
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200}, "Envoy asks another worker what the dead one held"

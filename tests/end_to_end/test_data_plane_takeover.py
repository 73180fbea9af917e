"""A large revision where mixer is inside the Envoy that carries the traffic: a fresh Envoy takes the ports over."""

from __future__ import annotations

import functools
import http.client
import json
import os
import signal
import socket
import stat
from collections import Counter

import pytest

from mixer_py.demo.parts import is_ready
from mixer_py.demo.processes import Ports
from tests.end_to_end.test_takeover import policy
from tests.parts.callers import OnAndOn
from tests.parts.inside import Inside
from tests.parts.mixer_process import Mixer, eventually, is_running
from tests.parts.names import removed_from
from tests.parts.upstream import Upstream

pytestmark = pytest.mark.envoy

_START_SECONDS = 240.0
_ANSWER_SECONDS = 60.0


class Visitors(OnAndOn):
    """Threads that send requests on and on: some keep their connection, others make a new one for each.

    Attributes:
        seen: answers by the version of the policy that let the request through.
        failures: requests that had no such answer.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.seen: Counter[str] = Counter()
        self.failures: list[str] = []
        super().__init__(functools.partial(self._visit, keeps) for keeps in (True, True, True, False, False))

    def _visit(self, keeps: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_ANSWER_SECONDS)
        while not self._done.is_set():
            try:
                connection.request("GET", "/reviews")
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
                continue
            if response.status == 200:
                self.seen[dict(json.loads(body)["headers"]).get("x-version", "undecided")] += 1
            else:
                self.failures.append(f"{response.status} {body!r}")
            if not keeps:
                connection.close()
        connection.close()


@pytest.mark.parametrize("threads", [1, 2], ids=["one-thread", "two-threads"])
def test_a_fresh_envoy_takes_the_traffic_over_and_no_request_fails(
    make_mixer, ports: Ports, upstream: Upstream, threads: int
):
    mixer: Mixer = make_mixer(policy("0"))
    inside = Inside(mixer, ports, upstream, threads)
    inside.write_bootstrap()
    # No rows here: a store beside two Envoys would only make the start longer.
    rooms = {"policy": {"bundles": ["policy"]}, "rate_limit": {"config": ["limits.yaml"], "timeout": "10s"}}
    mixer.configure({**rooms, "server": inside.server})
    mixer.start(ready=False)
    eventually(lambda: is_ready(mixer.admin), "an Envoy with mixer inside", _START_SECONDS)
    with Visitors(inside.port) as visitors:
        for version in ("1", "2"):
            mixer.reload(lambda version=version: mixer.write("policy/policy.rego", policy(version)))
            eventually(lambda version=version: visitors.seen[version] >= 50, f"50 answers by version {version}")
    assert visitors.failures == []
    assert set(visitors.seen) == {"0", "1", "2"}


def test_the_name_of_a_unix_socket_is_there_all_the_time_and_only_this_mixer_s(
    make_mixer, ports: Ports, upstream: Upstream, tmp_path
):
    """An Envoy removes the name that it is to bind, whosesoever, and who connects before it listens is refused."""
    mixer: Mixer = make_mixer(policy("0"))
    inside = Inside(mixer, ports, upstream)
    inside.write_bootstrap()
    bootstrap = json.loads((mixer.folder / "envoy.yaml").read_text())
    sockets = tmp_path / "sockets"
    sockets.mkdir()
    listener = bootstrap["static_resources"]["listeners"][0]
    listener["address"] = {"pipe": {"path": str(sockets / "web"), "mode": 0o660}}
    mixer.write("envoy.yaml", json.dumps(bootstrap))
    mixer.configure({"policy": {"bundles": ["policy"]}, "server": inside.server})
    mixer.start(ready=False)
    eventually(lambda: is_ready(mixer.admin), "an Envoy with mixer inside", _START_SECONDS)
    first = mixer.worker()
    with removed_from(sockets) as removed:
        for version in ("1", "2"):
            mixer.reload(lambda version=version: mixer.write("policy/policy.rego", policy(version)))
        os.kill(first, signal.SIGTERM)  # as it is ended when its connections have reached their age
        eventually(lambda: not is_running(first), "the end of the first Envoy")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_ANSWER_SECONDS)
            client.connect(str(sockets / "web"))
            client.sendall(b"GET /reviews HTTP/1.1\r\nhost: reviews\r\nconnection: close\r\n\r\n")
            assert client.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"
        assert removed.names() == []
    assert stat.S_IMODE((sockets / "web").stat().st_mode) == 0o660
    second: Mixer = make_mixer()
    own = {**Inside(second, ports, upstream).server, "socket": str(tmp_path / "second.sock")}
    second.configure({"policy": {"bundles": ["policy"]}, "server": own})
    program = second.start(ready=False)
    assert program.wait(_START_SECONDS) == 1
    assert f"cannot listen on unix://{sockets}/web: another mixer does" in program.tail()
    assert mixer.running.stop(_START_SECONDS) == 0
    assert list(sockets.iterdir()) == []

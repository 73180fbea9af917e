"""A revision too large to build beside the answers: a fresh worker takes over, and no call and no count is lost."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from typing import Self

import grpc
import pytest
from envoy.service.ratelimit.v3 import rls_pb2

from tests.parts.grpc_client import check_request, connect
from tests.parts.mixer_process import Mixer, eventually

pytestmark = pytest.mark.chdb

RULES = 3000
MANY_RULES = "".join(f'\nrule_{number} if input.parsed_path[0] == "path-{number}-of-many"\n' for number in range(RULES))


def policy(version: str) -> str:
    return f'package envoy.authz\n\nallow := {{"allowed": true, "headers": {{"x-version": "{version}"}}}}\n{MANY_RULES}'


def limit_request(tenant: str) -> rls_pb2.RateLimitRequest:
    request = rls_pb2.RateLimitRequest(domain="mesh")
    descriptor = request.descriptors.add()
    for key, value in (("tenant", tenant), ("service", "reviews")):
        descriptor.entries.add(key=key, value=value)
    return request


class Callers:
    """Threads that call on and on: some keep their connection, one makes a new one for every call."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.seen: Counter[str] = Counter()
        self.revisions: defaultdict[str, set[str]] = defaultdict(set)
        self.charged = 0
        self.failures: list[grpc.RpcError] = []
        self.slowest = 0.0
        self._done = threading.Event()
        works = (self._check_on_and_on, self._check_on_and_on, self._connect_anew, self._charge_on_and_on)
        self._threads = [threading.Thread(target=self._guarded, args=(work,)) for work in works]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _guarded(self, work) -> None:
        try:
            work()
        except grpc.RpcError as error:
            self.failures.append(error)

    def _check_on_and_on(self) -> None:
        with connect(self.address) as client:
            while not self._done.is_set():
                begun = time.monotonic()
                response = client.check(check_request())
                self.slowest = max(self.slowest, time.monotonic() - begun)
                version = response.ok_response.headers[0].header.value
                self.seen[version] += 1
                self.revisions[version].add(response.dynamic_metadata.fields["mixer_revision"].string_value)

    def _connect_anew(self) -> None:
        while not self._done.is_set():
            with connect(self.address) as client:
                client.check(check_request())

    def _charge_on_and_on(self) -> None:
        with connect(self.address) as client:
            while not self._done.is_set():
                client.limit(limit_request("busy"))
                self.charged += 1


@pytest.mark.parametrize("unix", [False, True], ids=["port", "unix-socket"])
def test_a_large_revision_is_built_in_a_fresh_worker_that_takes_over(make_mixer, tmp_path, unix):
    server = {"listeners": [{"address": f"unix://{tmp_path}/s"}]} if unix else {}
    mixer: Mixer = make_mixer(policy("0"), server=server)
    mixer.start()
    address = f"unix://{tmp_path}/s" if unix else mixer.address
    over = rls_pb2.RateLimitResponse.OVER_LIMIT
    with connect(address) as client:
        assert [client.limit(limit_request("acme")).overall_code == over for _ in range(3)] == [False] * 3
    with Callers(address) as callers:
        for version in ("1", "2"):
            mixer.reload(lambda version=version: mixer.write("policy/policy.rego", policy(version)))
            eventually(lambda version=version: callers.seen[version] >= 20, f"20 answers by version {version}")
    assert [str(failure) for failure in callers.failures] == []
    assert set(callers.seen) == {"0", "1", "2"}
    assert {len(revisions) for revisions in callers.revisions.values()} == {1}, "one revision decides and is told"
    assert mixer.metric("mixer_worker_restarts_total") == 0
    eventually(lambda: mixer.metric("mixer_reloads_total", outcome="activated") == 2, "both reloads are over")
    with connect(address) as client:
        assert client.limit(limit_request("acme")).overall_code == over
        status = client.limit(limit_request("busy")).statuses[0]
    assert 1_000_000 - status.limit_remaining == callers.charged + 1


def test_a_large_revision_with_a_fault_leaves_the_worker_in_place(make_mixer):
    mixer = make_mixer(policy("good"))
    mixer.start()
    revision = mixer.revision()
    mixer.write("policy/policy.rego", policy("bad") + "\nallow := {\n")
    eventually(lambda: mixer.metric("mixer_reloads_total", outcome="refused") >= 1, "a refused reload")
    assert mixer.revision() == revision
    with connect(mixer.address) as client:
        assert client.check(check_request()).ok_response.headers[0].header.value == "good"


def test_a_second_mixer_does_not_share_a_place(make_mixer, tmp_path):
    first = make_mixer()
    first.start()
    second = make_mixer()
    second.configure({"server": {"listeners": [{"address": first.address}], "socket": str(tmp_path / "other.sock")}})
    program = second.start(ready=False)
    assert program.wait(60) == 1
    assert f"cannot listen on {first.address}" in program.tail()

"""Counters in a real Valkey, through a running mixer: shared, kept over reloads and takeovers, and away."""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc
import pytest
from envoy.service.ratelimit.v3 import rls_pb2

from tests.end_to_end.conftest import NO_ROWS, settings
from tests.parts.grpc_client import Client, connect
from tests.parts.mixer_process import eventually
from tests.parts.tcp_proxy import SlowProxy
from tests.parts.valkey import Valkey
from tests.parts.valkey_groups import Watched

pytestmark = pytest.mark.valkey


def limit_request(tenant: str) -> rls_pb2.RateLimitRequest:
    request = rls_pb2.RateLimitRequest(domain="mesh")
    descriptor = request.descriptors.add()
    for key, value in (("tenant", tenant), ("service", "reviews")):
        descriptor.entries.add(key=key, value=value)
    return request


def test_counters_are_where_the_configuration_says(make_mixer, programs, ports) -> None:
    first, second = Valkey(programs, ports), Valkey(programs, ports)
    mixer = make_mixer(telemetry=NO_ROWS, rate_limit={"store": first.uri, "timeout": "5s"})
    mixer.start()
    with connect(mixer.address) as client:
        codes = [client.limit(limit_request("acme")).overall_code for _ in range(4)]
        assert codes == [rls_pb2.RateLimitResponse.OK] * 3 + [rls_pb2.RateLimitResponse.OVER_LIMIT]
        assert first.ask("DBSIZE") == b":1\r\n"
        mixer.reload(
            lambda: mixer.configure(
                settings(
                    mixer.folder,
                    telemetry=NO_ROWS,
                    rate_limit={"store": f"unix://{second.socket}", "timeout": "5s"},
                )
            )
        )
        assert client.limit(limit_request("acme")).statuses[0].limit_remaining == 2
        assert (first.ask("DBSIZE"), second.ask("DBSIZE")) == (b":1\r\n", b":1\r\n")


OUTCOMES = {
    "error": grpc.StatusCode.UNAVAILABLE,
    "allow": rls_pb2.RateLimitResponse.OK,
    "deny": rls_pb2.RateLimitResponse.OVER_LIMIT,
}
TIMEOUT = 0.2
SLACK = 5.0
"""Seconds that this machine may be busy with something else."""


def ask(client: Client) -> object:
    """A status or the code of an answer, for a tenant whose limit is never reached."""
    try:
        return client.limit(limit_request("other")).overall_code
    except grpc.RpcError as error:
        return error.code()


@pytest.mark.parametrize("on_error", OUTCOMES)
def test_away_it_costs_no_call_more_than_the_timeout_and_heals_by_itself(make_mixer, programs, ports, on_error) -> None:
    valkey = Valkey(programs, ports)
    with SlowProxy(valkey.port) as proxy:
        uri = f"redis://127.0.0.1:{proxy.port}"
        mixer = make_mixer(telemetry=NO_ROWS, rate_limit={"store": uri, "timeout": "200ms", "on_error": on_error})
        mixer.start()
        faults: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
            "killed": (lambda: (valkey.kill(), proxy.cut()), valkey.start),
            "hung": (valkey.hang, valkey.go_on),
            "slow": (lambda: setattr(proxy, "delay", 2.0), lambda: setattr(proxy, "delay", 0.0)),
        }
        with connect(mixer.address) as client:
            for fault, (begin, end) in faults.items():
                eventually(lambda: _counts(client, valkey), f"a store that counts, before it is {fault}")
                begin()
                begun = time.monotonic()
                answers = [ask(client) for _ in range(20)]
                assert set(answers) == {OUTCOMES[on_error]}, fault
                assert time.monotonic() - begun < TIMEOUT + SLACK, fault
                end()
            eventually(lambda: _counts(client, valkey), "a store that counts again")
        pid = mixer.worker()
        assert mixer.metric("mixer_counter_store_opened_total") >= 3
        assert mixer.metric("mixer_store_errors_total", reason="timeout") >= 2
        assert mixer.metric("mixer_counter_store_up") == 1
        assert mixer.worker() == pid
        assert mixer.metric("mixer_worker_restarts_total") == 0


def _counts(client: Client, valkey: Valkey) -> bool:
    """Whether a hit reaches the store."""
    if valkey.ask("FLUSHALL") != b"+OK\r\n" or ask(client) != rls_pb2.RateLimitResponse.OK:
        return False
    return valkey.ask("DBSIZE") == b":1\r\n"


def test_a_new_master_is_found_without_a_restart(make_mixer, programs, ports) -> None:
    watched = Watched(programs, ports)
    mixer = make_mixer(telemetry=NO_ROWS, rate_limit={"store": watched.uri, "timeout": "200ms"})
    mixer.start()
    with connect(mixer.address) as client:
        eventually(lambda: ask(client) == rls_pb2.RateLimitResponse.OK, "a first master")
        watched.master.kill()
        assert ask(client) == grpc.StatusCode.UNAVAILABLE
        eventually(lambda: ask(client) == rls_pb2.RateLimitResponse.OK, "a second master", 120)


@pytest.mark.parametrize(
    ("rate_limit", "words"),
    [
        ({"store": "redis://me:secret@host"}, "rate_limit.store: a password does not belong into the address"),
        ({"store": "redis://host/x"}, "rate_limit.store: 'redis://host/x': 'x' is no number of a database"),
        ({"store": "redis://host", "redis": {"password": {"file": "none"}}}, "none: rate_limit.redis"),
        ({"store": "rediss://host", "redis": {"tls": {"ca": "none"}}}, "rate_limit.redis: cannot be read"),
        ({"store": "rediss://host", "redis": {"tls": {"key": "limits.yaml"}}}, "certificate and key belong together"),
    ],
)
def test_a_store_that_cannot_be_opened_is_a_fault_of_the_configuration(make_mixer, rate_limit, words) -> None:
    mixer = make_mixer(telemetry=NO_ROWS, rate_limit=rate_limit)
    finished = mixer.run("validate")
    assert finished.returncode == 1
    assert words in finished.stdout
    assert "secret" not in finished.stdout

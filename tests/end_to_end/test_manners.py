"""Manners of the server towards callers that send too much, too many, too late or nonsense."""

from __future__ import annotations

import grpc
import pytest
from envoy.service.accesslog.v3 import als_pb2
from envoy.service.ratelimit.v3 import rls_pb2

from tests.parts.grpc_client import check_request, connect
from tests.parts.mixer_process import Mixer, eventually

pytestmark = pytest.mark.chdb

# `slow` in the path keeps the worker busy for about a second.
POLICY = """
package envoy.authz

import rego.v1

default allow := true

allow := false if {
    input.parsed_path[0] == "slow"
    count([1 | some i in numbers.range(1, 1000); some j in numbers.range(1, 1000); i * j == 0]) > 0
}
"""


@pytest.fixture(scope="module")
def mixer(make_module_mixer) -> Mixer:
    server = {"max_message_bytes": "64KiB", "max_in_flight": 4}
    mixer = make_module_mixer(POLICY, server=server, policy={"max_stall": "60s", "cache": {"entries": 0}})
    mixer.start()
    return mixer


def refused(mixer: Mixer, reason: str) -> float:
    return mixer.metric("mixer_calls_refused_total", reason=reason)


def test_a_message_above_the_limit_is_refused_alone(mixer: Mixer):
    with connect(mixer.address) as client:
        with pytest.raises(grpc.RpcError) as failure:
            client.check(check_request(headers={"x-large": "x" * 70_000}))
        assert failure.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert client.check(check_request()).status.code == 0


def test_bytes_that_are_no_check_request_are_an_invalid_argument(mixer: Mixer):
    with connect(mixer.address) as client:
        with pytest.raises(grpc.RpcError) as failure:
            client.check(b"\xff\xff\xff")
        assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "CheckRequest" in failure.value.details()
        assert client.check(check_request()).status.code == 0


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (rls_pb2.RateLimitRequest(descriptors=[{"entries": [{"key": "tenant", "value": "x"}]}]), "domain"),
        (rls_pb2.RateLimitRequest(domain="mesh"), "descriptor"),
    ],
    ids=["no-domain", "no-descriptors"],
)
def test_a_rate_limit_request_that_its_protocol_forbids_names_what_is_missing(mixer: Mixer, request_, named):
    with connect(mixer.address) as client:
        with pytest.raises(grpc.RpcError) as failure:
            client.limit(request_)
        assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert named in failure.value.details()


def test_too_many_calls_at_once_are_refused_at_once_and_counted(mixer: Mixer):
    before = refused(mixer, "overloaded")
    turned_away = 0
    with connect(mixer.address) as client:
        for _ in range(10):  # a crowd that this machine is slow to send comes when the slow call is over
            slow = client.check_later(check_request("/slow"))
            crowd = [client.check_later(check_request()) for _ in range(60)]
            codes = [call.code() for call in crowd]  # waits for each
            assert slow.result().status.code == 0
            assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
            turned_away += codes.count(grpc.StatusCode.UNAVAILABLE)
            if turned_away:
                break
    assert turned_away > 0
    assert refused(mixer, "overloaded") == before + turned_away


def test_no_work_is_done_for_a_caller_that_no_longer_waits(mixer: Mixer):
    before, checks = refused(mixer, "deadline"), mixer.metric("mixer_checks_total")
    with connect(mixer.address) as client:
        client.check(check_request())
        slow = client.check_later(check_request("/slow"))
        late = [client.check_later(check_request(), seconds=0.05) for _ in range(3)]
        assert {call.code() for call in late} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        slow.result()
        client.check(check_request())
    done = mixer.metric("mixer_checks_total") - checks
    assert done + refused(mixer, "deadline") - before <= 6
    assert done < 6


def test_a_malformed_log_entry_costs_itself_alone(mixer: Mixer):
    good, bad = als_pb2.StreamAccessLogsMessage(), als_pb2.StreamAccessLogsMessage()
    good.identifier.log_name = "outbound"
    for number in range(3):
        good.http_logs.log_entry.add().request.request_id = f"good-{number}"
    bad.http_logs.log_entry.add().request.request_id = "between-0"
    bad.http_logs.log_entry.add().request.request_id = "REPLACED"
    bad.http_logs.log_entry.add().request.request_id = "between-1"
    broken = bad.SerializeToString().replace(b"REPLACED", b"\xff\xfe\xfd\xfc\xff\xfe\xfd\xfc")  # no UTF-8
    dropped = mixer.metric("mixer_rows_total", table="requests", state="dropped", reason="malformed")
    received = mixer.metric("mixer_rows_total", table="requests", state="received")
    with connect(mixer.address) as client:
        client.log([good, broken, good])

    sql = "SELECT request_id FROM requests WHERE startsWith(request_id, 'good-') OR startsWith(request_id, 'between-')"
    wanted = sorted([*(2 * ["good-0", "good-1", "good-2"]), "between-0", "between-1"])
    eventually(lambda: sorted(row["request_id"] for row in mixer.rows(sql)) == wanted, "every entry but the broken one")
    assert mixer.metric("mixer_rows_total", table="requests", state="dropped", reason="malformed") == dropped + 1
    assert mixer.metric("mixer_rows_total", table="requests", state="received") == received + 9


def test_a_log_message_of_nonsense_ends_nothing(mixer: Mixer):
    good = als_pb2.StreamAccessLogsMessage()
    good.identifier.log_name = "outbound"
    good.http_logs.log_entry.add().request.request_id = "after-nonsense"
    with connect(mixer.address) as client:
        client.log([good, b"\x12\x04\x0a\x7f", good])
    sql = "SELECT request_id FROM requests WHERE request_id = 'after-nonsense'"
    eventually(lambda: len(mixer.rows(sql)) == 2, "both good messages")
    assert mixer.metric("mixer_worker_restarts_total") == 0

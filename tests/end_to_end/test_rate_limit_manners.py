"""What rate-limit requests and rule files of bad form cost: their own answer, and nobody else's."""

from __future__ import annotations

import json
import threading

import grpc
import pytest
from envoy.service.ratelimit.v3 import rls_pb2

from tests.parts.grpc_client import connect
from tests.parts.mixer_process import Mixer, eventually

RULES = """\
domain: mesh
descriptors:
  - key: tenant
    rate_limit: {unit: year, requests_per_unit: 1000000}
"""


@pytest.fixture(scope="module")
def mixer(module_programs, ports, tmp_path_factory) -> Mixer:
    mixer = Mixer(module_programs, ports, tmp_path_factory.mktemp("manners"))
    mixer.write("limits/limits.yaml", RULES)
    listeners = [{"address": mixer.address}, {"address": f"unix://{mixer.folder}/grpc.sock"}]
    mixer.configure({"rate_limit": {"config": ["limits"]}, "server": {"listeners": listeners}})
    mixer.start()
    return mixer


def ask(value: str = "a", *, entries: int = 1, descriptors: int = 1, key: str = "tenant") -> rls_pb2.RateLimitRequest:
    request = rls_pb2.RateLimitRequest(domain="mesh")
    for _ in range(descriptors):
        descriptor = request.descriptors.add()
        for _ in range(entries):
            descriptor.entries.add(key=key, value=value)
    return request


def override(request: rls_pb2.RateLimitRequest) -> rls_pb2.RateLimitRequest:
    request.descriptors[0].limit.requests_per_unit = 1_000_000
    request.descriptors[0].limit.unit = 7
    return request


def not_utf_8() -> bytes:
    """A request whose descriptor has a value that is not UTF-8."""
    return ask("%%").SerializeToString().replace(b"%%", b"\xc3\x28")


def faults_of(mixer: Mixer) -> list[str]:
    faults: list[str] = json.loads(mixer.get("/config").body)["last_reload_faults"]
    return faults


ABSURD = {
    "a value of three megabytes": ask("v" * 3_000_000),
    "a key of three megabytes": ask(key="k" * 3_000_000),
    "two hundred thousand entries": ask(entries=200_000),
    "the same with a limit of its own": override(ask(entries=200_000)),
    "a value of three megabytes with a limit of its own": override(ask("v" * 3_000_000)),
}
REFUSED = {
    "a value that is not UTF-8": not_utf_8(),
    "more descriptors than any route asks for": ask(descriptors=5000).SerializeToString(),
    "bytes that are no request": b"\xff\xff\xff",
    "half a request": ask("a" * 100).SerializeToString()[:-50],
}


@pytest.mark.parametrize("request_", ABSURD.values(), ids=ABSURD.keys())
def test_an_absurd_request_is_answered_as_any_other(mixer: Mixer, request_: rls_pb2.RateLimitRequest):
    with connect(mixer.address) as client:
        answer = client.limit(request_)
        assert answer.overall_code == rls_pb2.RateLimitResponse.OK
        assert len(answer.statuses) == 1
        assert answer.ByteSize() < 8192


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED.keys())
def test_a_request_of_bad_form_is_refused_alone(mixer: Mixer, request_: bytes):
    with connect(mixer.address) as client:
        with pytest.raises(grpc.RpcError) as failure:
            client.limit(request_)
        assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert client.limit(ask()).overall_code == rls_pb2.RateLimitResponse.OK


def test_others_are_answered_while_absurd_requests_come(mixer: Mixer):
    stop, absurd = threading.Event(), list(ABSURD.values())

    def send() -> None:
        with connect(mixer.address) as client:
            for number in range(40):
                if stop.is_set():
                    return
                client.limit(absurd[number % len(absurd)])

    sending = threading.Thread(target=send)
    sending.start()
    try:
        with connect(mixer.address) as client:
            left = [client.limit(ask("calm")).statuses[0].limit_remaining for _ in range(200)]
    finally:
        stop.set()
        sending.join()
    assert left == list(range(999_999, 999_799, -1))


def test_absurd_requests_leave_no_series_and_no_memory_behind(mixer: Mixer):
    with connect(mixer.address) as client:
        client.limit(ABSURD["a value of three megabytes with a limit of its own"])
    rules = {dict(labels).get("rule") for _, labels in mixer.metrics("mixer_rate_limit")}
    assert rules <= {"mesh/tenant", "(none)", "mesh/(override)", None}


def test_hits_are_given_back_on_a_unix_socket_and_not_on_tcp(mixer: Mixer):
    taken = ask("giver")
    taken.descriptors[0].hits_addend.value = 10
    given = ask("giver")
    given.descriptors[0].hits_addend.value = 4
    given.descriptors[0].MergeFromString(b"\x20\x01")  # is_negative_hits
    with connect(mixer.address) as stranger, connect(f"unix://{mixer.folder}/grpc.sock") as known:
        stranger.limit(taken)
        with pytest.raises(grpc.RpcError) as failure:
            stranger.limit(given)
        assert failure.value.code() == grpc.StatusCode.PERMISSION_DENIED
        assert known.limit(given).statuses[0].limit_remaining == 1_000_000 - 6


def test_a_faulty_rule_file_keeps_the_last_good_rules_and_says_where(mixer: Mixer):
    with connect(mixer.address) as client:
        client.limit(ask("kept"))
        refused = mixer.metric("mixer_reloads_total", outcome="refused")
        path = mixer.write("limits/limits.yaml", RULES.replace("unit: year", "unit: fortnight"))
        eventually(lambda: mixer.metric("mixer_reloads_total", outcome="refused") > refused, "the fault is counted")
        faults = faults_of(mixer)
        assert len(faults) == 1
        assert f"{path}:4" in faults[0]
        assert "fortnight" in faults[0]
        assert client.limit(ask("kept")).statuses[0].limit_remaining == 999_998
        mixer.write("limits/limits.yaml", RULES)
        eventually(lambda: faults_of(mixer) == [], "the good file heals it")
        assert client.limit(ask("kept")).statuses[0].limit_remaining == 999_997

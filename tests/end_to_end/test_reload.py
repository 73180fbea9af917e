"""Reload: another revision decides, no call is lost, and what is bad is never put in force."""

from __future__ import annotations

import json
import threading
from collections import Counter

import grpc
import pytest
from envoy.service.ratelimit.v3 import rls_pb2

from tests.end_to_end.conftest import NO_ROWS
from tests.parts.grpc_client import check_request, connect
from tests.parts.mixer_process import eventually


def policy(version: str) -> str:
    return f'package envoy.authz\n\nallow := {{"allowed": true, "headers": {{"x-version": "{version}"}}}}\n'


@pytest.mark.chdb
def test_reload_under_load_loses_no_call(make_mixer):
    mixer = make_mixer(policy("0"))
    mixer.start()
    done = threading.Event()
    seen: Counter[str] = Counter()
    failures: list[grpc.RpcError] = []

    def call_on_and_on() -> None:
        with connect(mixer.address) as client:
            while not done.is_set():
                try:
                    response = client.check(check_request())
                except grpc.RpcError as error:
                    failures.append(error)
                    return
                seen[response.ok_response.headers[0].header.value] += 1

    callers = [threading.Thread(target=call_on_and_on) for _ in range(3)]
    for caller in callers:
        caller.start()
    try:
        for version in ("1", "2", "3"):
            mixer.reload(lambda version=version: mixer.write("policy/policy.rego", policy(version)))
            eventually(lambda version=version: seen[version] >= 20, f"20 answers by version {version}")
    finally:
        done.set()
        for caller in callers:
            caller.join()
    assert failures == []
    assert set(seen) == {"0", "1", "2", "3"}
    assert mixer.metric("mixer_worker_restarts_total") == 0


def test_a_changed_file_reloads_by_itself(make_mixer):
    mixer = make_mixer(policy("before"), telemetry=NO_ROWS)
    mixer.start()
    revision = mixer.revision()
    mixer.write("policy/policy.rego", policy("after"))
    eventually(lambda: mixer.revision() != revision, "a new revision without a signal")
    with connect(mixer.address) as client:
        assert client.check(check_request()).ok_response.headers[0].header.value == "after"
    assert mixer.metric("mixer_reloads_total", outcome="activated") >= 1


@pytest.mark.parametrize(
    ("file", "text", "place"),
    [
        ("policy/policy.rego", "package envoy.authz\n\nallow := {\n", "policy.rego:"),
        ("policy/policy.rego", "package envoy.authz\n\nallow := http.send({})\n", "policy.rego:3"),
        ("limits.yaml", "domain: mesh\ndescriptors:\n  - kye: tenant\n", "limits.yaml:3"),
    ],
    ids=["policy-that-does-not-parse", "policy-beyond-the-engine", "misspelled-limit"],
)
def test_what_is_bad_is_refused_with_its_place_and_the_last_good_revision_stays(make_mixer, file, text, place):
    mixer = make_mixer(policy("good"), telemetry=NO_ROWS)
    mixer.start()
    revision = mixer.revision()
    mixer.write(file, text)
    eventually(lambda: mixer.metric("mixer_reloads_total", outcome="refused") >= 1, "a refused reload")
    assert mixer.revision() == revision
    with connect(mixer.address) as client:
        assert client.check(check_request()).ok_response.headers[0].header.value == "good"
    assert place in json.dumps(json.loads(mixer.get("/config").body))
    assert place in mixer.running.tail()


def test_a_misspelled_key_in_the_configuration_is_refused_and_mended_by_the_next_write(make_mixer):
    mixer = make_mixer(policy("good"), telemetry=NO_ROWS)
    mixer.start()
    good = mixer.file.read_text()
    mixer.write("mixer.yaml", good.replace("bundles:", "bundels:"))
    eventually(lambda: mixer.metric("mixer_reloads_total", outcome="refused") >= 1, "a refused reload")
    assert "bundles" in mixer.running.tail()  # the suggestion
    mixer.reload(lambda: (mixer.write("mixer.yaml", good), mixer.write("policy/policy.rego", policy("better"))))
    with connect(mixer.address) as client:
        assert client.check(check_request()).ok_response.headers[0].header.value == "better"


def test_counters_of_rate_limits_survive_a_reload(make_mixer):
    mixer = make_mixer(policy("0"), telemetry=NO_ROWS)
    mixer.start()
    request = rls_pb2.RateLimitRequest(domain="mesh")
    descriptor = request.descriptors.add()
    for key, value in (("tenant", "acme"), ("service", "reviews")):
        descriptor.entries.add(key=key, value=value)
    over = rls_pb2.RateLimitResponse.OVER_LIMIT
    with connect(mixer.address) as client:
        assert [client.limit(request).overall_code == over for _ in range(3)] == [False, False, False]
        mixer.reload(lambda: mixer.write("policy/policy.rego", policy("1")))
        assert client.limit(request).overall_code == over


def test_limits_in_a_mounted_config_map_are_read_anew_when_kubernetes_swaps_it(make_mixer):
    """The files are links into `..data`, itself a link that is put in place of the old one at once."""
    mixer = make_mixer(policy("0"), telemetry=NO_ROWS)
    limits = mixer.folder / "mounted"

    def mount(time: str, requests: int) -> None:
        rule = f"{{key: tenant, rate_limit: {{unit: year, requests_per_unit: {requests}}}}}"
        mixer.write(f"mounted/..{time}/shop.yaml", f"domain: shop\ndescriptors: [{rule}]\n")
        (limits / "..data_tmp").symlink_to(f"..{time}")
        (limits / "..data_tmp").rename(limits / "..data")

    mount("2026_01_01", 5)
    (limits / "shop.yaml").symlink_to("..data/shop.yaml")
    mixer.configure({"policy": {"bundles": ["policy"]}, "rate_limit": {"config": ["mounted"]}})
    mixer.start()
    request = rls_pb2.RateLimitRequest(domain="shop")
    request.descriptors.add().entries.add(key="tenant", value="acme")
    with connect(mixer.address) as client:
        assert client.limit(request).statuses[0].limit_remaining == 4
        before = mixer.revision()
        mount("2026_01_02", 9)
        eventually(lambda: mixer.revision() != before, "a new revision without a signal")
        assert client.limit(request).statuses[0].limit_remaining == 7  # of the same counter
    (rule,) = json.loads(mixer.get("/rlconfig").body)["limits"]
    assert rule["place"] == f"{limits}/shop.yaml:2"

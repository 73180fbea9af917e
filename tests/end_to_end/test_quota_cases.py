"""The case folders of quotas over gRPC by both transports and through a real Envoy, and the rows that come of them.

One mixer is reloaded from case to case; counters outlive that, so each way has quotas of its own names. Left to the
offline run: cases that move the clock.
"""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import yaml

from tests.end_to_end.conftest import settings
from tests.parts.envoy_proxy import EnvoyProxy
from tests.parts.grpc_client import connect
from tests.parts.mixer_process import Mixer, eventually
from tests.parts.presence import ROOT
from tests.parts.quota_cases import Case, assert_answer, assert_headers, load_cases

pytestmark = pytest.mark.envoy


def still(cases: list[Case]) -> list[Case]:
    return [case for case in cases if not case.moves_the_clock]


@pytest.fixture(scope="module")
def mixer(make_module_mixer) -> Mixer:
    mixer = make_module_mixer()
    mixer.use_both()
    mixer.configure(settings(mixer.folder))
    mixer.start()
    return mixer


def decide_by(mixer: Mixer, case: Case) -> None:
    """Reloads the mixer with a case, as a revision of its own also after the same case; rows are written meanwhile."""

    def change() -> None:
        mixer.write("policy/policy.rego", f"{case.policy}\n# {time.monotonic_ns()}\n")
        whole = settings(mixer.folder, policy=case.configuration.get("policy", {}))
        whole["rate_limit"] = case.configuration.get("rate_limit", {})
        mixer.configure(whole)

    mixer.reload(change)


@pytest.mark.parametrize("transport", ["grpcio", "inside"])
@pytest.mark.parametrize("number", range(len(still(load_cases()))), ids=[case.name for case in still(load_cases())])
def test_case_over_grpc(number: int, transport: str, mixer: Mixer):
    case = still(load_cases(transport))[number]
    decide_by(mixer, case)
    with connect(mixer.address if transport == "grpcio" else mixer.second) as client:
        for step in case.steps:
            if step.error is not None:
                with pytest.raises(grpc.RpcError) as failure:
                    client.check(step.message())
                assert failure.value.code().name == step.error["grpc_status"]
                assert step.error["contains"] in failure.value.details()
            else:
                assert_answer(client.check(step.message()), step.want)


@pytest.mark.parametrize("case", still(load_cases("envoy")), ids=lambda case: case.name)
def test_case_through_envoy(case: Case, mixer: Mixer, envoy: EnvoyProxy):
    decide_by(mixer, case)
    for step in case.steps:
        if "http" not in step.want:
            continue
        http = step.want["http"]
        response = envoy.request(step.path, method=step.method, headers=list(step.headers.items()))
        assert response.status == http["status"], (step, response)
        assert_headers(dict(response.headers), http)
        if "body" in http:
            assert response.body.decode() == http["body"]
        for name, value in http.get("upstream_headers", {}).items():
            assert response.sent[name] == value


QUOTAS = {
    "quotas": [
        {"name": "rows-in-force", "match": 'request.url_path == "/counted"', "limit": "1 / 1d"},
        {"name": "rows-in-shadow", "match": 'request.url_path == "/tried"', "limit": "1 / 1d", "shadow": True},
        {"name": "rows-crowd", "match": 'request.url_path == "/crowd"', "limit": "40 / 1d"},
    ]
}


@pytest.fixture
def counting(mixer: Mixer) -> Mixer:
    """The mixer with these quotas."""
    decide_by(mixer, Case("rows", {"rate_limit": QUOTAS}, "package envoy.authz\n\nallow := true\n", ()))
    return mixer


@pytest.mark.parametrize(
    ("path", "status", "wanted"),
    [
        ("/free", 200, {"verdict": "allow", "quota_name": "", "quota_code": "", "quota_remaining": None}),
        ("/counted", 429, {"verdict": "deny", "quota_name": "rows-in-force", "quota_code": "OVER_LIMIT",
                           "quota_remaining": 0, "rule": "rate_limit.quotas.rows-in-force",
                           "reasons": "quota rows-in-force is used up: 1 / 1d"}),
        ("/tried", 200, {"verdict": "allow", "quota_name": "rows-in-shadow", "quota_code": "SHADOW_OVER_LIMIT",
                         "quota_remaining": 0, "reasons": "quota rows-in-shadow is used up: 1 / 1d (shadow)"}),
    ],
    ids=["no-quota", "denied", "shadow"],
)  # fmt: skip
def test_a_row_says_which_quota_decided(counting: Mixer, envoy: EnvoyProxy, path, status, wanted):
    first, second = (envoy.request(path) for _ in range(2))
    assert (first.status, second.status) == (200, status)
    row = counting.row(second.header("x-request-id"))
    assert {name: row[name] for name in wanted} == wanted
    assert (row["response_code"], row["limit_name"]) == (status, "")
    sql = f"SELECT * FROM request_decisions WHERE request_id = '{row['request_id']}' AND joined_by != ''"
    (joined,) = eventually(lambda: counting.rows(sql), "both rows")
    assert {name: joined[f"decided_{name}"] for name in wanted} == wanted
    assert not joined["disagrees"]


def test_rlconfig_shows_the_quotas_in_force(counting: Mixer):
    shown = {quota["name"]: quota for quota in json.loads(counting.get("/rlconfig").body)["quotas"]}
    assert shown.keys() == {"rows-in-force", "rows-in-shadow", "rows-crowd"}
    assert shown["rows-in-shadow"] == {
        "name": "rows-in-shadow", "match": 'request.url_path == "/tried"', "key": [], "cost": "1", "limit": "1 / 1d",
        "algorithm": "fixed_window", "burst": 1, "lease": 0, "lease_bounds": {}, "shadow": True,
        "on_absent_key": "empty", "on_expression_error": "deny",
    }  # fmt: skip


def test_clients_at_once_never_pass_more_than_the_limit(counting: Mixer, envoy: EnvoyProxy):
    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(lambda _: envoy.request("/crowd").status, range(100)))
    assert (statuses.count(200), statuses.count(429)) == (40, 60)
    assert counting.metric("mixer_quotas_total", quota="rows-crowd", code="OK") == 40
    assert counting.metric("mixer_quotas_total", quota="rows-crowd", code="OVER_LIMIT") == 60


def test_the_sample_policy_charges_the_quota_of_a_customers_plan(mixer: Mixer, envoy: EnvoyProxy):
    sample = ROOT / "policies" / "quotas_from_policy"
    block = re.search(r"```yaml\n(.*?)```", (sample / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    configuration = yaml.safe_load(block[1])
    configuration["policy"]["bundles"] = [str(ROOT / bundle) for bundle in configuration["policy"]["bundles"]]
    mixer.reload(lambda: mixer.configure({**settings(mixer.folder), **configuration}))
    while time.time() % 60 > 50:  # all within one window
        time.sleep(1)
    free, gold = ([("x-api-key", f"sample-key-of-{name}")] for name in ("globex", "acme"))
    statuses = [envoy.request("/reports", method="POST", headers=free).status]
    statuses += [envoy.request("/books", headers=free).status for _ in range(3)]
    assert statuses == [200, 200, 200, 429], "a report costs 8 of 10 hits a minute"
    assert envoy.request("/books", headers=gold).status == 200
    assert envoy.request("/books").status == 401

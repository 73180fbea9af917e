"""Check, limit, log, join, see: one mixer and one Envoy with the shipped configuration, and nothing in between."""

from __future__ import annotations

import pytest

from tests.parts.envoy_proxy import EnvoyProxy
from tests.parts.mixer_process import Mixer, eventually

pytestmark = [pytest.mark.envoy, pytest.mark.chdb]

# Written for opa-envoy-plugin, in the form of OPA's Envoy tutorial; it knows nothing of mixer.
POLICY = """
package envoy.authz

import rego.v1

import input.attributes.request.http

default allow := {
    "allowed": false,
    "headers": {"x-ext-auth-allow": "no"},
    "body": "Unauthorized Request",
    "http_status": 301,
}

allow := response if {
    http.method == "GET"
    input.parsed_path[0] in {"open", "reviews", "ratings", "break"}
    response := {
        "allowed": true,
        "headers": {"x-current-user": http.headers.user},
        "response_headers_to_add": {"x-served-by": "policy"},
        "request_headers_to_remove": ["one-auth-header", "another-auth-header"],
        "query_parameters_to_set": {"page": "1"},
        "dynamic_metadata": {"greeting": "hello"},
    }
}
"""
USER = ("user", "ann")


@pytest.fixture(scope="module")
def mixer(make_module_mixer):
    mixer = make_module_mixer(POLICY)
    mixer.start()
    return mixer


def test_a_policy_for_opa_envoy_plugin_lets_a_request_through_unchanged(envoy: EnvoyProxy):
    response = envoy.request("/open/1", headers=[USER, ("one-auth-header", "secret"), ("other", "stays")])
    assert response.status == 200, response
    assert response.sent["x-current-user"] == "ann"
    assert response.sent["other"] == "stays"
    assert "one-auth-header" not in response.sent
    assert response.header("x-served-by") == "policy"
    assert response.echo["path"] == "/open/1?page=1"


def test_a_policy_for_opa_envoy_plugin_denies_with_its_own_status_headers_and_body(envoy: EnvoyProxy):
    response = envoy.request("/closed", headers=[USER])
    assert response.status == 301
    assert response.header("x-ext-auth-allow") == "no"
    assert response.body == b"Unauthorized Request"


def test_a_path_that_cannot_be_parsed_is_answered_400(envoy: EnvoyProxy):
    assert envoy.request("/open?%zz", headers=[USER]).status == 400


def test_two_levels_of_descriptors_give_429_to_that_tenant_at_that_service_alone(envoy: EnvoyProxy):
    acme = [USER, ("x-tenant", "acme")]
    statuses = [envoy.request("/reviews/1", headers=acme).status for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    assert envoy.request("/ratings/1", headers=acme).status == 200
    assert envoy.request("/reviews/1", headers=[USER, ("x-tenant", "globex")]).status == 200
    assert envoy.request("/reviews/1", headers=[USER]).status == 200


@pytest.mark.parametrize(
    ("path", "tenant", "wanted"),
    [
        ("/open/1", "globex", {"verdict": "allow", "limit_code": "OK", "response_code": 200, "response_flags": "-"}),
        ("/closed/1", "globex", {"verdict": "deny", "limit_code": "", "response_code": 301}),
        ("/break/1", "globex", {"verdict": "allow", "limit_code": "OK", "response_code": 503, "response_flags": "UC"}),
        ("/open/2", None, {"verdict": "allow", "limit_code": "", "limit_remaining": None, "response_code": 200}),
    ],
    ids=["allowed", "denied", "upstream-failure", "not-limited"],
)
def test_one_row_joins_verdict_limit_and_outcome(envoy: EnvoyProxy, mixer: Mixer, path, tenant, wanted):
    headers = [USER, ("user-agent", "test"), *([("x-tenant", tenant)] if tenant else [])]
    response = envoy.request(path, headers=headers)
    row = mixer.row(response.header("x-request-id"))
    assert {name: row[name] for name in wanted} == wanted
    assert (row["request_method"], row["request_url_path"], row["request_useragent"]) == ("GET", path, "test")
    assert row["decision"] == "envoy/authz/allow"
    assert row["policy_revision"] == mixer.revision()
    assert len(row["decision_id"]) == 36
    assert row["destination_service_name"] == "reviews", "of a denied request too, whatever its Host header says"


def test_the_row_of_a_limited_request_names_the_limit(envoy: EnvoyProxy, mixer: Mixer):
    first, second = (envoy.request("/reviews/9", headers=[USER, ("x-tenant", "umbrella")]) for _ in range(2))
    assert (first.status, second.status) == (200, 429)
    row = mixer.row(second.header("x-request-id"))
    assert (row["verdict"], row["limit_code"], row["limit_remaining"], row["response_code"]) == (
        "allow", "OVER_LIMIT", 0, 429,
    )  # fmt: skip
    assert row["limit_name"]
    assert "RL" in row["response_flags"]
    assert (row["destination_service_host"], row["upstream_cluster"]) == ("reviews", "")


def test_the_commands_read_the_rows_back(envoy: EnvoyProxy, mixer: Mixer):
    request_id = envoy.request("/open/3", headers=[USER]).header("x-request-id")
    mixer.row(request_id)
    (row,) = mixer.query(f"SELECT verdict, response_code FROM requests WHERE request_id = '{request_id}'")
    assert row == {"verdict": "allow", "response_code": 200}


def test_the_decision_is_logged_apart_and_joined_by_its_id(envoy: EnvoyProxy, mixer: Mixer):
    request_id = envoy.request("/closed/2", headers=[USER]).header("x-request-id")
    decision_id = mixer.row(request_id)["decision_id"]
    sql = f"SELECT * FROM decisions WHERE decision_id = '{decision_id}'"
    (decision,) = eventually(lambda: mixer.rows(sql), "the row of the decision")
    assert (decision["request_id"], decision["verdict"], decision["http_status"]) == (request_id, "deny", 301)
    assert mixer.rows(f"SELECT * FROM request_decisions WHERE decision_id = '{decision_id}'")


def test_prometheus_counts_what_istio_counts(envoy: EnvoyProxy, mixer: Mixer):
    def counted() -> float:
        return mixer.metric(
            "istio_requests_total", response_code="301", response_flags="UAEX", destination_service_name="reviews"
        )

    before, checks = counted(), mixer.metric("mixer_checks_total", verdict="deny")
    envoy.request("/closed/3", headers=[USER])
    eventually(lambda: counted() > before, "more istio_requests_total")  # of the tests before entries may come late
    assert mixer.metric("mixer_checks_total", verdict="deny") == checks + 1
    samples = [labels for name, labels in mixer.metrics() if name == "istio_requests_total"]
    assert {len(labels) for labels in samples} == {25}
    buckets = [labels for name, labels in mixer.metrics() if name == "istio_request_duration_milliseconds_bucket"]
    assert {float(dict(labels)["le"]) for labels in buckets} == {
        0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
        float("inf"),
    }  # fmt: skip


def test_no_row_is_unaccounted_for_when_nothing_moves(envoy: EnvoyProxy, mixer: Mixer):
    mixer.row(envoy.request("/open/4", headers=[USER]).header("x-request-id"))

    def balanced() -> bool:
        rows = mixer.metric
        received = rows("mixer_rows_total", state="received")
        kept = sum(rows("mixer_rows_total", state=state) for state in ("written", "dropped")) + rows("mixer_queue_rows")
        return received > 0 and received == kept

    eventually(balanced, "received = written + dropped + queue")
    assert mixer.metric("mixer_rows_total", state="dropped") == 0

"""What metrics read by its name and rows do not show: as if rows showed it, masked like them, and in no row."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.service.accesslog.v3 import als_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference_decoder import entries

from mixer_py.instruments import FakeClock, Registry
from mixer_py.settings import Secret
from mixer_py.telemetry.access_log.decoding import ANONYMOUS, AccessLogDecoder, DecodedLogs
from mixer_py.telemetry.settings import TelemetrySettings
from mixer_py.telemetry.user_metrics import UserMetrics

CLOCK = FakeClock()
EVERYTHING = {
    "headers": {"request": ["*"], "response": ["*"], "trailers": ["*"]}, "query": ["*"], "claims": ["*"],
}  # fmt: skip
READS = [
    'request.headers["content-type"]', '"grpc-status" in request_headers ? "yes" : "no"', "request.referer",
    'response.headers["content-type"]', 'response_trailers["grpc-status"]', 'request.query_params["a"]',
    "request.auth.claims.sub" , 'request_auth_claims["groups"]', 'request.headers["x-nobody-sends-it"]',
    'request.query_params.a + request.headers["grpc-message"]', "request.method", 'custom_tags["tenant"]',
]  # fmt: skip
Counted = dict[tuple[str, ...], tuple[float, ...]]


def telemetry(labels: dict[str, str], **keys: Any) -> TelemetrySettings:
    metric = {"name": "mine_total", "kind": "counter", "labels": labels, "max_label_sets": 10_000}
    return TelemetrySettings.model_validate({"prometheus": {"metrics": [metric]}, **keys})


def decoded(found: TelemetrySettings, log_entries: list[Any]) -> DecodedLogs:
    message = als_pb2.StreamAccessLogsMessage()
    message.http_logs.log_entry.extend(log_entries)
    return AccessLogDecoder(CLOCK, found.privacy).decode([(message.SerializeToString(), ANONYMOUS)])


def counted(found: TelemetrySettings, log_entries: list[Any]) -> Counted:
    registry, logs = Registry(), decoded(found, log_entries)
    UserMetrics(registry, found.prometheus.metrics).count_requests(logs.requests, logs.alike, logs.for_metrics)
    return {tuple(value for _, value in series.labels): numbers for series, numbers in registry.read()}


def request(**headers: str) -> Any:
    entry = als_pb2.StreamAccessLogsMessage.HTTPAccessLogEntries().log_entry.add()
    entry.request.request_headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return entry


shown = st.fixed_dictionaries({}, optional={
    "headers": st.fixed_dictionaries({}, optional={
        "request": st.sampled_from([["*"], ["content-type"], ["referer", "x-other"]]),
        "response": st.sampled_from([["*"], ["content-type"]]),
        "trailers": st.sampled_from([["*"], ["grpc-status"]]),
    }),
    "query": st.sampled_from([["*"], ["a"], ["b"]]),
    "claims": st.sampled_from([["*"], ["sub"]]),
})  # fmt: skip
masks = st.sampled_from([
    {"defaults": False}, {}, {"headers": ["content-type"], "query": ["a"]},
    {"columns": {"request_headers/content-type": "remove", "request_referer": "replace", "request_auth_claims": "hash"},
     "hash_key": Secret(value="a key of sixteen letters")},
])  # fmt: skip


@given(st.lists(entries(), max_size=4), st.lists(st.sampled_from(READS), min_size=1, max_size=4), shown, masks)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine draws entries slowly
def test_a_metric_counts_alike_whatever_rows_show_and_changes_no_row(
    log_entries: list[Any], reads: list[str], keys: dict[str, Any], mask: dict[str, Any]
) -> None:
    labels = {f"label{number}": text for number, text in enumerate(reads)}
    found = telemetry(labels, mask=mask, **keys)
    assert counted(found, log_entries) == counted(telemetry(labels, mask=mask, **EVERYTHING), log_entries)
    without = telemetry({}, mask=mask, **keys)
    assert decoded(found, log_entries).requests == decoded(without, log_entries).requests


def test_what_is_masked_is_masked_for_metrics() -> None:
    labels = {name: f'request.headers["{name}"]' for name in ("cookie", "x-account", "x-user", "x-link", "x-tenant")}
    mask = {
        "headers": ["x-account"], "columns": {"request_headers/x-user": "hash"},
        "hash_key": Secret(value="a key of sixteen letters"),
    }  # fmt: skip
    labels = {name.replace("-", "_"): text for name, text in labels.items()}
    sent = request(cookie="id=1", x_account="4711", x_user="ann", x_link="/?page=1&token=1", x_tenant="acme")
    ((cookie, account, user, link, tenant),) = counted(telemetry(labels, mask=mask), [sent])
    assert (cookie, account, link, tenant) == ("***", "***", "/?page=1&token=***", "acme")
    assert len(user) == 32
    assert (cookie, account, user, link, tenant) in counted(telemetry(labels, mask=mask, **EVERYTHING), [sent])


def test_a_map_as_a_whole_is_what_rows_show_of_it_whatever_other_metrics_read() -> None:
    keys = {"headers": {"request": ["x-shown"]}}
    labels = {"size": "string(size(request.headers))", "tenant": 'request.headers["x-tenant"]'}
    sent = request(x_shown="1", x_tenant="acme", x_other="2")
    assert counted(telemetry(labels, **keys), [sent]) == {("1", "acme"): (1,)}


@pytest.mark.parametrize(
    ("labels", "keys"),
    [
        ({"tenant": 'request.headers["x-tenant"]'}, {"headers": {"request": ["x-tenant", "x-other"]}}),
        ({"tenant": 'request.headers["x-tenant"]', "page": "request.query_params.page"}, EVERYTHING),
        ({"tenant": 'custom_tags["tenant"]', "host": "request.host"}, {}),
        ({}, {}),
    ],
)
def test_nothing_is_read_twice_where_rows_show_all_that_metrics_read(labels: dict[str, str], keys: Any) -> None:
    assert telemetry(labels, **keys).privacy.for_metrics == {}
    assert decoded(telemetry(labels, **keys), [request(x_tenant="acme")]).for_metrics is None


def test_only_what_is_named_leaves_the_decoder() -> None:
    found = telemetry({"tenant": 'request.headers["x-tenant"]', "from": "request.referer"})
    logs = decoded(found, [request(x_tenant="acme", x_other="2"), request(x_other="3")])
    assert logs.for_metrics is not None
    assert logs.for_metrics.to_pylist() == [
        {"request_headers": [("x-tenant", "acme")], "request_referer": ""},
        {"request_headers": [], "request_referer": ""},
    ]

"""More label sets than a metric may have, in log entries sent to a running mixer, and then one scrape."""

from __future__ import annotations

import gzip
from collections import Counter

from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage
from prometheus_client.parser import text_string_to_metric_families

from tests.parts.grpc_client import connect
from tests.parts.http_client import request

MOST, SENT, TIMES = 150, 200, 2


def entries(times: int) -> StreamAccessLogsMessage:
    message = StreamAccessLogsMessage()
    message.identifier.log_name = "outbound"
    for number in [*range(SENT)] * times:
        entry = message.http_logs.log_entry.add()
        entry.common_properties.upstream_cluster = f"outbound|80||s{number}.shop.svc.cluster.local"
        entry.common_properties.duration.nanos = 3_000_000
    return message


def test_a_scrape_has_every_label_set_up_to_the_bound_and_the_rest_in_one(make_mixer):
    mixer = make_mixer(telemetry={"clickhouse": None, "prometheus": {"max_label_sets": MOST}})
    mixer.start()
    with connect(mixer.address) as client:
        client.log([entries(TIMES)])
    answer = request(mixer.admin, "/metrics", headers=[("accept-encoding", "gzip")])
    assert answer.header("content-encoding") == "gzip"
    text = gzip.decompress(answer.body).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    beyond = (SENT - MOST) * TIMES
    wanted = {f"s{number}": float(TIMES) for number in range(MOST)} | {"other": float(beyond)}
    for name in (
        "istio_requests",
        "istio_request_duration_milliseconds",
        "istio_request_bytes",
        "istio_response_bytes",
    ):
        ending = "_total" if name == "istio_requests" else "_count"
        counted = {
            sample.labels["destination_service_name"]: sample.value
            for sample in families[name].samples
            if sample.name == name + ending
        }
        assert counted == wanted
    buckets = Counter(
        sample.labels["le"]
        for sample in families["istio_request_duration_milliseconds"].samples
        if sample.name.endswith("_bucket") and sample.value
    )
    assert buckets.keys() >= {"5.0", "+Inf"}
    assert not buckets.keys() & {"0.5", "1.0"}  # three milliseconds are above these
    (beyond_series,) = (one for one in families["istio_requests"].samples if one.labels["reporter"] == "other")
    assert set(beyond_series.labels.values()) == {"other"}

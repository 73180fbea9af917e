"""What `mixer doctor --envoy` finds in an Envoy's settings: the shipped ones with one thing changed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mixer_py.config import load
from mixer_py.config.configuration import Configuration
from mixer_py.doctor.envoy import Known, examine_envoy
from mixer_py.doctor.envoy_document import messages, read_envoy
from mixer_py.doctor.finding import Finding
from mixer_py.errors import ConfigurationError, NotRunningError

SHIPPED = Path("deploy/envoy/envoy.yaml")


def configured(*overrides: str) -> Configuration:
    return load(None, {}, overrides)


def complaints(document: Any, *overrides: str, domains: frozenset[str] = frozenset({"mesh"})) -> list[Finding]:
    found = examine_envoy(document, Known(configured(*overrides), domains))
    return [one for one in found if one.state != "good"]


def shipped() -> Any:
    return read_envoy(str(SHIPPED))


def of(document: Any, kind: str) -> Any:
    """The one message of that type, to be changed."""
    (one,) = (found.message for found in messages(document) if found.kind == kind)
    return one


def mixer_cluster(document: Any) -> Any:
    return document["static_resources"]["clusters"][0]


def test_nothing_is_wrong_with_the_shipped_settings():
    assert complaints(shipped()) == []
    assert complaints(shipped(), "server.workers=4") == []


@pytest.mark.parametrize(
    ("change", "state", "words"),
    [
        (lambda d: of(d, "ExtAuthz").pop("transport_api_version"), "fault", "speaks no version of the API"),
        (lambda d: of(d, "RateLimit")["rate_limit_service"].pop("transport_api_version"), "fault", "no version"),
        (lambda d: of(d, "ExtAuthz")["grpc_service"].pop("timeout"), "warning", "200 ms, and Istio's 600 s"),
        (lambda d: of(d, "ExtAuthz")["grpc_service"].update(timeout="600s"), "warning", "may wait 600 s"),
        (lambda d: of(d, "RateLimit").pop("timeout"), "warning", "the default is 20 ms"),
        (lambda d: of(d, "ExtAuthz").pop("grpc_service"), "fault", "asks over HTTP"),
        (
            lambda d: of(d, "ExtAuthz").update(failure_mode_allow=True, failure_mode_allow_header_add=False),
            "warning", "rows cannot say that they were not checked",
        ),
        (
            lambda d: of(d, "ExtAuthz")["with_request_body"].update(max_request_bytes=8 << 20),
            "fault", "sends bodies of 8388608 bytes",
        ),
        (lambda d: of(d, "RateLimit").update(domain="edge"), "fault", "asks in the domain edge"),
        (
            lambda d: [of(d, "HttpGrpcAccessLogConfig").pop(f"additional_response_{part}_to_log")
                       for part in ("headers", "trailers")],
            "warning", "does not log grpc-status",
        ),
        (lambda d: of(d, "HttpConnectionManager").pop("normalize_path"), "warning", "`..` and `//`"),
        (lambda d: of(d, "HttpConnectionManager").pop("path_with_escaped_slashes_action"), "warning", "%2F is left"),
        (lambda d: mixer_cluster(d).pop("typed_extension_protocol_options"), "fault", "does not speak HTTP/2"),
        (lambda d: mixer_cluster(d).pop("circuit_breakers"), "warning", "circuit breaker at 1024"),
        (lambda d: mixer_cluster(d).update(name="mixr"), "fault", "is not there"),
        (lambda d: mixer_cluster(d).update(transport_socket={}), "fault", "speaks TLS, and 127.0.0.1:9091 does not"),
        (lambda d: of(d, "HttpConnectionManager").pop("access_log"), "warning", "no access log is sent over gRPC"),
        (lambda d: of(d, "HttpConnectionManager").update(http_filters=[]), "warning", "no filter asks"),
    ],
)  # fmt: skip
def test_one_change_is_one_complaint(change: Callable[[Any], object], state: str, words: str):
    document = shipped()
    change(document)
    (one,) = complaints(document)
    assert one.state == state
    assert words in f"{one.message} {one.way_out}"
    assert one.way_out


def test_a_circuit_breaker_that_somebody_chose_is_a_wish():
    document = shipped()
    mixer_cluster(document)["circuit_breakers"]["thresholds"][0]["max_requests"] = 64
    assert complaints(document) == []


def test_a_circuit_breaker_above_what_mixer_lets_wait_makes_mixer_refuse():
    document = shipped()
    mixer_cluster(document)["circuit_breakers"]["thresholds"][0]["max_requests"] = 256
    (one,) = complaints(document)
    assert "circuit breaker at 256 calls, and mixer lets 128 wait" in one.message
    assert "max_requests: 128" in one.way_out
    assert complaints(document, "server.workers=2") == []
    assert complaints(document, "server.max_waiting=256") == []


def test_behind_a_name_there_may_be_many_mixers_so_that_a_number_that_was_chosen_is_left():
    document = shipped()
    mixer_cluster(document)["circuit_breakers"]["thresholds"][0]["max_requests"] = 2048
    for endpoint in mixer_cluster(document)["load_assignment"]["endpoints"][0]["lb_endpoints"]:
        endpoint["endpoint"]["address"]["socket_address"]["address"] = "mixer.mesh"
    assert complaints(document) == []


def test_a_header_that_says_that_a_request_was_not_checked_is_logged():
    document = shipped()
    of(document, "ExtAuthz")["failure_mode_allow"] = True
    assert complaints(document) == []
    of(document, "HttpGrpcAccessLogConfig")["additional_request_headers_to_log"] = []
    (one,) = complaints(document)
    assert "say verdict `none`" in one.message


def test_what_metrics_read_of_headers_is_logged():
    def reading(text: str) -> str:
        metric = {"name": "mine_total", "kind": "counter", "labels": {"label": text}}
        return f"telemetry.prometheus.metrics={json.dumps([metric])}"

    assert complaints(shipped(), reading('request.headers["x-tenant"] + request.referer')) == []
    assert complaints(shipped(), reading('response_trailers["grpc-status"]')) == []
    for text, words in (
        ('request.headers["x-plan"] + request.headers["x-colour"]', "additional_request_headers_to_log"),
        ('response.headers["x-colour"]', "additional_response_headers_to_log"),
        ('"x-colour" in response_trailers', "additional_response_trailers_to_log"),
    ):
        (one,) = complaints(shipped(), reading(text))
        assert "x-colour" in one.message
        assert words in one.way_out


@pytest.mark.parametrize(
    "exchange",
    [
        {
            "@type": "type.googleapis.com/udpa.type.v1.TypedStruct",
            "type_url": "type.googleapis.com/io.istio.http.peer_metadata.Config", "value": {},
        },
        {"@type": "type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange", "protocol": "istio2"},
    ],
)  # fmt: skip
def test_what_istios_proxies_know_of_each_other_is_logged(exchange: dict[str, Any]):
    document = shipped()
    of(document, "HttpConnectionManager")["http_filters"].insert(
        0, {"name": "istio.metadata_exchange", "typed_config": exchange}
    )
    common = of(document, "HttpGrpcAccessLogConfig")["common_config"]
    for named in ([], ["envoy.filters.http.grpc_stats"], ["downstream_peer_id"]):
        common["filter_state_objects_to_log"] = named
        (one,) = complaints(document)
        assert "workload" in one.message
        assert "add downstream_peer and upstream_peer to filter_state_objects_to_log" in one.way_out
    for name in ("upstream_peer", "wasm.downstream_peer"):
        common["filter_state_objects_to_log"] = ["envoy.filters.http.grpc_stats", name]
        assert complaints(document) == []


def test_several_workers_need_several_connections():
    document = shipped()
    locality = mixer_cluster(document)["load_assignment"]["endpoints"][0]
    locality["lb_endpoints"] = locality["lb_endpoints"][:1]
    assert complaints(document) == []
    (one,) = complaints(document, "server.workers=2")
    assert "has 1 endpoints" in one.message


def test_another_port_than_mixers():
    (one,) = complaints(shipped(), "server.listeners=[{address: '127.0.0.1:9999'}]")
    assert one.message == "asks at port 9091, and mixer listens at 9999"


def test_a_listener_with_tls_is_spoken_to_with_tls():
    (one,) = complaints(shipped(), "server.tls={certificate: a.pem, key: a.key}")
    assert "speaks plaintext" in one.message


def test_names_may_be_written_as_json_writes_them(tmp_path: Path):
    def camel(document: Any) -> Any:
        if isinstance(document, dict):
            return {"".join(part if not index else part.capitalize() for index, part in enumerate(key.split("_")))
                    if "." not in key else key: camel(value) for key, value in document.items()}  # fmt: skip
        return [camel(one) for one in document] if isinstance(document, list) else document

    file = tmp_path / "envoy.json"
    file.write_text(json.dumps(camel(yaml.safe_load(SHIPPED.read_text()))))
    document = read_envoy(str(file))
    assert complaints(document) == []
    of(document, "ExtAuthz").pop("transport_api_version")
    assert [one.state for one in complaints(document)] == ["fault"]


def test_a_file_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        read_envoy(str(tmp_path / "none.yaml"))
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(ConfigurationError, match="is neither YAML nor JSON"):
        read_envoy(str(broken))


def test_an_address_where_no_envoy_answers():
    with pytest.raises(NotRunningError, match="does not answer with Envoy's settings"):
        read_envoy("http://127.0.0.1:9")

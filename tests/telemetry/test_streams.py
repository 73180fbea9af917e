"""Who reports, and what its node says."""

import pytest
from envoy.service.accesslog.v3 import als_pb2

from mixer_py.errors import InvalidRequestError
from mixer_py.telemetry.access_log.parties import Names, parties_of, reporter_of, service_of
from mixer_py.telemetry.access_log.streams import StreamIdentity, parse_identity

ROUTER = "router~10.0.0.1~gateway-1.istio-system~istio-system.svc.cluster.local"
WAYPOINT = "waypoint~10.0.0.1~waypoint-1.shop~shop.svc.cluster.local"
SIDECAR = "sidecar~10.0.0.1~reviews-1.shop~shop.svc.cluster.local"


def first_message() -> als_pb2.StreamAccessLogsMessage:
    message = als_pb2.StreamAccessLogsMessage()
    message.identifier.log_name = "mixer"
    node = message.identifier.node
    node.id, node.cluster = SIDECAR, "reviews.shop"
    node.metadata.update(
        {
            "WORKLOAD_NAME": "reviews-v1",
            "NAMESPACE": "shop",
            "CLUSTER_ID": "Kubernetes",
            "LABELS": {"app": "reviews", "version": "v1", "service.istio.io/canonical-name": "reviews", "other": "x"},
            "PROXY_CONFIG": {"large": "and not kept"},
            "ENVOY_STATUS_PORT": 15021,
        }
    )
    message.http_logs.log_entry.add()
    return message


def test_the_first_message_tells_the_identity():
    identity = parse_identity(first_message().SerializeToString())
    assert identity is not None
    assert (identity.log_name, identity.node_id, identity.node_cluster) == ("mixer", SIDECAR, "reviews.shop")
    assert identity.node_metadata == {
        "WORKLOAD_NAME": "reviews-v1", "NAMESPACE": "shop", "CLUSTER_ID": "Kubernetes", "LABELS.app": "reviews",
        "LABELS.version": "v1", "LABELS.service.istio.io/canonical-name": "reviews", "LABELS.other": "x",
    }  # fmt: skip
    assert (identity.local.workload_name, identity.local.app, identity.local.canonical_revision) == (
        "reviews-v1", "reviews", "",
    )  # fmt: skip


def test_later_messages_tell_none():
    message = first_message()
    message.ClearField("identifier")
    assert parse_identity(message.SerializeToString()) is None
    assert parse_identity(b"") is None
    assert parse_identity(b"\xff") is None


@pytest.mark.parametrize("identifier", [b"\x0a\x05", b"\x12\x01\xff", b"\x07"])
def test_a_malformed_identifier_is_an_error_that_names_it(identifier):
    with pytest.raises(InvalidRequestError, match=r"StreamAccessLogsMessage\.identifier"):
        parse_identity(bytes([0x0A, len(identifier)]) + identifier)


@pytest.mark.parametrize(
    ("log_name", "node", "cluster", "reporter"),
    [
        ("inbound", ROUTER, "outbound|80||a", "destination"),
        ("mixer-outbound", "", "inbound|80||", "source"),
        ("als_SERVER_log", "", "", "destination"),
        ("outbound-and-inbound", "", "inbound|80||", "destination"),
        ("mixer", ROUTER, "inbound|80||", "destination"),
        ("mixer", "", "outbound|80||reviews.shop.svc.cluster.local", "source"),
        ("mixer", "", "outbound_.80_._.reviews.shop.svc.cluster.local", "source"),
        ("mixer", WAYPOINT, "inbound-vip|80|http|reviews", "waypoint"),
        ("mixer", ROUTER, "reviews", "source"),
        ("mixer", SIDECAR, "reviews", "source"),
        ("", "", "", "source"),
    ],
)
def test_the_reporter_comes_from_name_then_cluster_then_node(log_name, node, cluster, reporter):
    assert reporter_of(StreamIdentity(log_name, node), cluster) == reporter


@pytest.mark.parametrize(
    ("cluster", "service"),
    [
        ("outbound|80|v1|reviews.shop.svc.cluster.local", ("reviews.shop.svc.cluster.local", "reviews", "shop")),
        ("outbound_.80_._.reviews.shop.svc.cluster.local", ("reviews.shop.svc.cluster.local", "reviews", "shop")),
        ("outbound|443||api.example.com", ("api.example.com", "api", "")),
        ("inbound|80||", ("", "", "")),
        ("reviews", ("reviews", "reviews", "")),
        ("PassthroughCluster", ("", "PassthroughCluster", "")),
        ("", ("", "", "")),
    ],
)
def test_the_service_comes_from_the_cluster(cluster, service):
    assert service_of(cluster)[:3] == service
    assert service_of(cluster).uid == ("istio://shop/services/reviews" if service[2] else "")


def test_each_side_is_known_by_its_proxy_or_by_its_name():
    caller, server = "spiffe://td/ns/apps/sa/web", "spiffe://td/ns/shop/sa/reviews"
    inbound = parties_of(StreamIdentity("inbound", SIDECAR, "reviews.shop"), Names("inbound|80||", caller, server))
    assert inbound.source[:3] == ("apps", "web", "apps")
    assert inbound.destination[:3] == ("shop", "reviews.shop", "shop")
    assert inbound.destination_principal == server
    outbound = parties_of(StreamIdentity("outbound", ROUTER, "gateway"), Names("reviews", "", server))
    assert outbound.source[:3] == ("istio-system", "gateway", "istio-system")
    assert outbound.destination[:3] == ("", "", "")
    assert outbound.destination_principal == ""

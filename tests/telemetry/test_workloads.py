"""Peer metadata are read in every form that Istio has had, and garbage tells nothing."""

from __future__ import annotations

import pytest
from envoy.data.accesslog.v3.accesslog_pb2 import HTTPAccessLogEntry
from envoy.service.accesslog.v3 import als_pb2
from google.protobuf import any_pb2, wrappers_pb2
from hypothesis import given
from hypothesis import strategies as st

from mixer_py.instruments import FakeClock
from mixer_py.telemetry.access_log.decoding import AccessLogDecoder, StreamIdentity
from mixer_py.telemetry.access_log.entries import DOWNSTREAM_PEER, UPSTREAM_PEER
from mixer_py.telemetry.access_log.workloads import MOST_LABELS, SEPARATOR, UNKNOWN, Workload, peer_of
from tests.parts.peer_forms import (
    FLAT_NODE,
    IDENTITY,
    LABELS,
    NODE_METADATA,
    OWNER,
    WORKLOAD_METADATA,
    FlatBuilder,
    a_struct,
)

REVIEWS = Workload(
    namespace="shop", workload_name="reviews-v1", canonical_service="reviews", canonical_revision="v1", app="reviews",
    version="v1", cluster="east", name="reviews-v1-abc", owner=OWNER, identity=IDENTITY,
    labels=tuple(sorted(LABELS.items())), containers="reviews,side", proxy_version="1.12",
)  # fmt: skip


def packed(message) -> any_pb2.Any:
    made = any_pb2.Any()
    made.Pack(message)
    return made


def told(made: any_pb2.Any) -> bytes:
    return made.type_url.encode() + SEPARATOR + made.value


MORE = {"APP_CONTAINERS": "reviews,side", "ISTIO_VERSION": "1.12"}
NODE = {**NODE_METADATA, "identity": IDENTITY}
"""These forms do not tell that; they are given it so that all tell the same."""
FORMS = {
    "since 1.24": packed(a_struct({**WORKLOAD_METADATA, "labels": LABELS, **MORE})),
    "FlatBuffer": packed(wrappers_pb2.BytesValue(value=FLAT_NODE)),
    "node metadata": packed(wrappers_pb2.BytesValue(value=a_struct(NODE).SerializeToString())),
    "node metadata that are declared": packed(a_struct(NODE)),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_peer_is_read_in_every_form(form):
    assert peer_of(told(FORMS[form])) == REVIEWS


def test_an_owner_is_told_by_node_metadata():
    assert (
        peer_of(told(packed(a_struct({"OWNER": "kubernetes://apis/apps/v1/x"})))).owner == "kubernetes://apis/apps/v1/x"
    )
    flat = packed(wrappers_pb2.BytesValue(value=FlatBuilder().finish({3: "owner"})))
    assert peer_of(told(flat)) == Workload(owner="owner")


@pytest.mark.parametrize(
    "garbage",
    [
        b"", b"x", SEPARATOR, told(packed(wrappers_pb2.StringValue(value="a,b"))),
        b"type.googleapis.com/google.protobuf.Struct\0\xff", b"type.googleapis.com/google.protobuf.BytesValue\0\xff",
        told(packed(wrappers_pb2.BytesValue(value=b"\xff" * 12))), told(packed(wrappers_pb2.BytesValue(value=b""))),
        told(packed(a_struct({"namespace": 1.5, "LABELS": "x", "workload": {}}))),
        told(packed(wrappers_pb2.BytesValue(value=b"\x0a\xff"))),
    ],
    # Of their own: a Struct's bytes come in any order, and processes that share the tests have to agree on names.
    ids=[
        "nothing", "one byte", "a separator", "a string", "a broken struct", "broken bytes", "a bad tag", "no bytes",
        "wrong types", "a broken struct in bytes",
    ],
)  # fmt: skip
def test_what_is_no_peer_tells_nothing(garbage):
    assert peer_of(garbage) == UNKNOWN


@given(st.binary(max_size=200), st.integers(0, len(FLAT_NODE) - 1), st.binary(max_size=8))
def test_no_flat_buffer_is_broken_enough_to_raise(noise, place, patch):
    patched = FLAT_NODE[:place] + patch + FLAT_NODE[place + len(patch) :]
    for value in (noise, patched, FLAT_NODE[:place]):
        assert isinstance(peer_of(told(packed(wrappers_pb2.BytesValue(value=value)))), Workload)


def decode(entry: HTTPAccessLogEntry, identity: StreamIdentity) -> dict:
    message = als_pb2.StreamAccessLogsMessage()
    message.http_logs.log_entry.append(entry)
    (row,) = AccessLogDecoder(FakeClock()).decode([(message.SerializeToString(), identity)]).requests.to_pylist()
    return row


@pytest.mark.parametrize(
    ("log", "names", "side"), [("inbound", DOWNSTREAM_PEER, "source"), ("outbound", UPSTREAM_PEER, "destination")]
)
def test_the_other_side_is_what_filter_state_tells_under_any_key(log, names, side):
    for name in names:
        entry = HTTPAccessLogEntry()
        entry.common_properties.filter_state_objects[name].CopyFrom(FORMS["since 1.24"])
        row = decode(entry, StreamIdentity(log, "n", "local"))
        assert {
            f"{side}_workload_name": "reviews-v1", f"{side}_namespace": "shop", f"{side}_canonical_service": "reviews",
            f"{side}_canonical_revision": "v1", f"{side}_app": "reviews", f"{side}_version": "v1",
            f"{side}_cluster": "east", f"{side}_name": "reviews-v1-abc",
            f"{side}_workload_uid": "istio://shop/workloads/reviews-v1",
            f"{side}_uid": "kubernetes://reviews-v1-abc.shop", f"{side}_labels": sorted(LABELS.items()),
            f"{side}_serviceAccount": "reviews",
            f"{side}_principal": IDENTITY, f"{side}_owner": OWNER,
        }.items() <= row.items(), name  # fmt: skip
        other = "destination" if side == "source" else "source"
        assert row[f"{other}_workload_name"] == "local"


def test_a_certificate_counts_more_than_metadata_and_a_waypoint_has_two_peers():
    entry = HTTPAccessLogEntry()
    for name in ("downstream_peer", "upstream_peer"):
        entry.common_properties.filter_state_objects[name].CopyFrom(FORMS["since 1.24"])
    certificate = entry.common_properties.tls_properties.peer_certificate_properties
    certificate.subject_alt_name.add().uri = "spiffe://td/ns/apps/sa/web"
    row = decode(entry, StreamIdentity("waypoint", "n", "local"))
    assert (row["reporter"], row["source_principal"]) == ("waypoint", "spiffe://td/ns/apps/sa/web")
    assert (row["source_workload_name"], row["destination_workload_name"]) == ("reviews-v1", "reviews-v1")


def test_a_custom_tag_tells_the_upstreams_certificate():
    entry = HTTPAccessLogEntry()
    entry.common_properties.filter_state_objects["upstream_peer"].CopyFrom(FORMS["since 1.24"])
    entry.common_properties.custom_tags["destination.principal"] = "spiffe://td/ns/shop/sa/other"
    assert decode(entry, StreamIdentity("outbound"))["destination_principal"] == "spiffe://td/ns/shop/sa/other"


def test_labels_that_are_too_many_or_too_long_are_left_out():
    many = {f"label-{number:03}": "x" for number in range(1000)}
    kept = peer_of(told(packed(a_struct({"LABELS": {**many, "app": "reviews", "a-long-one": "x" * 513}}))))
    assert [name for name, _ in kept.labels] == ["app", *sorted(many)[:MOST_LABELS]]
    assert kept.app == "reviews"

"""Peer metadata are read in every form that Istio has had, and garbage tells nothing."""

from __future__ import annotations

import struct

import pytest
from envoy.data.accesslog.v3.accesslog_pb2 import HTTPAccessLogEntry
from envoy.service.accesslog.v3 import als_pb2
from google.protobuf import any_pb2, struct_pb2, wrappers_pb2
from hypothesis import given
from hypothesis import strategies as st

from mixer_py.instruments import FakeClock
from mixer_py.telemetry.access_log.decoding import AccessLogDecoder, StreamIdentity
from mixer_py.telemetry.access_log.entries import DOWNSTREAM_PEER, UPSTREAM_PEER
from mixer_py.telemetry.access_log.workloads import MOST_LABELS, SEPARATOR, UNKNOWN, Workload, peer_of

LABELS = {
    "app": "reviews", "version": "v1", "service.istio.io/canonical-name": "reviews",
    "service.istio.io/canonical-revision": "v1", "other": "x",
}  # fmt: skip
REVIEWS = Workload(
    namespace="shop", workload_name="reviews-v1", canonical_service="reviews", canonical_revision="v1", app="reviews",
    version="v1", cluster="east", name="reviews-v1-abc", owner="", identity="spiffe://td/ns/shop/sa/reviews",
    labels=tuple(sorted(LABELS.items())), containers="reviews,side", proxy_version="1.12",
)  # fmt: skip


def packed(message) -> any_pb2.Any:
    made = any_pb2.Any()
    made.Pack(message)
    return made


def told(made: any_pb2.Any) -> bytes:
    return made.type_url.encode() + SEPARATOR + made.value


def a_struct(**fields) -> any_pb2.Any:
    made = struct_pb2.Struct()
    made.update(fields)
    return packed(made)


class FlatBuilder:
    """Writes the tables that FlatNode consists of, each behind the one that names it."""

    def __init__(self) -> None:
        self.data = bytearray(4)

    def table(self, fields: dict[int, object]) -> int:
        """Where the table stands; strings and lists of such dictionaries as fields."""
        count = max(fields, default=-1) + 1
        vtable = len(self.data)
        self.data += struct.pack(f"<HH{count}H", 4 + 2 * count, 4 + 4 * len(fields), *([0] * count))
        table = len(self.data)
        self.data += struct.pack("<i", table - vtable) + bytes(4 * len(fields))
        for index, (field, value) in enumerate(fields.items()):
            struct.pack_into("<H", self.data, vtable + 4 + 2 * field, 4 + 4 * index)
            place = table + 4 + 4 * index
            self.point(place, self.text(value) if isinstance(value, str) else self.vector(value))
        return table

    def point(self, place: int, target: int) -> None:
        struct.pack_into("<I", self.data, place, target - place)

    def text(self, value: str) -> int:
        at = len(self.data)
        self.data += struct.pack("<I", len(value.encode())) + value.encode() + b"\0"
        return at

    def vector(self, tables) -> int:
        at = len(self.data)
        self.data += struct.pack("<I", len(tables)) + bytes(4 * len(tables))
        for index, fields in enumerate(tables):
            self.point(at + 4 + 4 * index, self.text(fields) if isinstance(fields, str) else self.table(fields))
        return at

    def finish(self, fields: dict[int, object]) -> bytes:
        self.point(0, self.table(fields))
        return bytes(self.data)


FLAT_NODE = FlatBuilder().finish(
    {0: "reviews-v1-abc", 1: "shop", 2: [{0: key, 1: value} for key, value in LABELS.items()], 4: "reviews-v1",
     6: "1.12", 8: ["reviews", "side"], 9: "east", 11: "spiffe://td/ns/shop/sa/reviews"}
)  # fmt: skip
FORMS = {
    "since 1.24": a_struct(
        namespace="shop", workload="reviews-v1", service="reviews", revision="v1", app="reviews", version="v1",
        cluster="east", name="reviews-v1-abc", identity="spiffe://td/ns/shop/sa/reviews", region="r",
        labels=LABELS, APP_CONTAINERS="reviews,side", ISTIO_VERSION="1.12",
    ),
    "FlatBuffer": packed(wrappers_pb2.BytesValue(value=FLAT_NODE)),
    "node metadata": a_struct(
        NAMESPACE="shop", WORKLOAD_NAME="reviews-v1", CLUSTER_ID="east", NAME="reviews-v1-abc", LABELS=LABELS,
        identity="spiffe://td/ns/shop/sa/reviews", ISTIO_VERSION="1.12", APP_CONTAINERS="reviews,side",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_peer_is_read_in_every_form(form):
    assert peer_of(told(FORMS[form])) == REVIEWS


def test_an_owner_is_told_by_node_metadata():
    assert peer_of(told(a_struct(OWNER="kubernetes://apis/apps/v1/x"))).owner == "kubernetes://apis/apps/v1/x"
    flat = packed(wrappers_pb2.BytesValue(value=FlatBuilder().finish({3: "owner"})))
    assert peer_of(told(flat)) == Workload(owner="owner")


@pytest.mark.parametrize(
    "garbage",
    [
        b"", b"x", SEPARATOR, told(packed(wrappers_pb2.StringValue(value="a,b"))),
        b"type.googleapis.com/google.protobuf.Struct\0\xff", b"type.googleapis.com/google.protobuf.BytesValue\0\xff",
        told(packed(wrappers_pb2.BytesValue(value=b"\xff" * 12))), told(packed(wrappers_pb2.BytesValue(value=b""))),
        told(a_struct(namespace=1.5, LABELS="x", workload={})),
    ],
    # Of their own: a Struct's bytes come in any order, and processes that share the tests have to agree on names.
    ids=[
        "nothing", "one byte", "a separator", "a string", "a broken struct", "broken bytes", "a bad tag", "no bytes",
        "wrong types",
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
            f"{side}_principal": "spiffe://td/ns/shop/sa/reviews",
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
    kept = peer_of(told(a_struct(LABELS={**many, "app": "reviews", "a-long-one": "x" * 513})))
    assert [name for name, _ in kept.labels] == ["app", *sorted(many)[:MOST_LABELS]]
    assert kept.app == "reviews"

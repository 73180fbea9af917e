"""What is remembered of parties says what working them out anew says."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import struct_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.telemetry.access_log import known_parties
from mixer_py.telemetry.access_log.known_parties import KnownParties, Said, SaidNames
from mixer_py.telemetry.access_log.parties import NAMES, OF_INSTANCES, Names, parties_of
from mixer_py.telemetry.access_log.streams import ANONYMOUS, StreamIdentity


def peer(**fields: str) -> bytes:
    told = struct_pb2.Struct()
    told.update(fields)
    return b"type.googleapis.com/google.protobuf.Struct\0" + told.SerializeToString()


NODE = {"NAMESPACE": "a", "LABELS.app": "till"}
IDENTITIES = (
    ANONYMOUS,
    StreamIdentity("inbound", "envoy-2", "shop", NODE),
    StreamIdentity("", "sidecar~10.0.0.1~one.a~a.svc", "shop", NODE | {"NAME": "one"}),
    StreamIdentity("", "sidecar~10.0.0.2~two.a~a.svc", "shop", NODE | {"NAME": "two"}),
    StreamIdentity("waypoint", "waypoint~10.0.0.3~w.a~a.svc", "", NODE),
)
CLUSTERS = ("", "inbound|80||", "plain", *(f"outbound|80||s{number}.b.svc.cluster.local" for number in range(20)))
PEERS = (b"", peer(name="one", workload="web", namespace="c"), peer(name="two", workload="web", namespace="c"), b"?")
NAME = st.sampled_from(("", "spiffe://x/ns/b/sa/c", "spiffe://x/ns/d/sa/e"))
ENTRY = st.tuples(
    st.sampled_from(IDENTITIES),
    st.builds(
        Names, st.sampled_from(CLUSTERS), NAME, NAME, NAME, st.sampled_from(PEERS), st.sampled_from(PEERS)
    ),
)  # fmt: skip


def found(known, entries):
    """What is known of entries, each with the identity of its stream."""
    identities = list(dict.fromkeys(identity for identity, _ in entries))
    streams = np.array([identities.index(identity) for identity, _ in entries])
    columns = zip(*(names for _, names in entries), strict=True)
    kinds = (*[pa.string()] * 4, *[pa.binary()] * 2)
    said = [Said(pa.array(column, kind), len(entries)) for column, kind in zip(columns, kinds, strict=True)]
    return known.facts(identities, streams, SaidNames(*said))


def rows_of(facts, names=NAMES):
    rows = zip(*(facts.columns[name].to_pylist() for name in names), strict=True)
    return [tuple(tuple(value) if isinstance(value, list) else value for value in row) for row in rows]


def worked_out(entries):
    return [parties_of(*entry).row() for entry in entries]


@given(st.lists(st.lists(ENTRY, min_size=1, max_size=12), max_size=20))
@settings(deadline=None)
def test_slice_after_slice_each_entry_has_the_row_of_what_it_says(slices):
    known = KnownParties()
    for entries in slices:
        facts = found(known, entries)
        assert rows_of(facts) == worked_out(entries)
        alike = rows_of(facts, [name for name in NAMES if name not in OF_INSTANCES])
        groups = dict(zip(alike, facts.groups.tolist(), strict=True))
        assert [groups[row] for row in alike] == facts.groups.tolist()
        assert len(set(groups.values())) == len(groups) == facts.count


def test_what_no_entry_says_is_empty():
    nothing = SaidNames(*[Said(None, 3)] * 4, *[Said(None, 3, b"")] * 2)
    facts = KnownParties().facts([ANONYMOUS], np.zeros(3, np.int64), nothing)
    assert rows_of(facts) == [parties_of(ANONYMOUS, Names("")).row()] * 3


@pytest.mark.parametrize(
    ("identity", "names", "kind"),
    [
        (ANONYMOUS, Names("c" * 10_000), "services"),
        (ANONYMOUS, Names("c", upstream_peer=b"p" * 10_000), "destinations"),
        (ANONYMOUS, Names("c", peer="p" * 10_000), "sources"),
        (StreamIdentity("outbound", "n", "c" * 10_000), Names("c"), "sources"),
        (StreamIdentity("outbound", "n" * 10_000), Names("c"), "reporters"),
    ],
)
def test_what_nobody_calls_so_is_not_worth_the_room(identity, names, kind):
    known = KnownParties()
    for _ in range(3):
        assert rows_of(found(known, [(identity, names)] * 2)) == worked_out([(identity, names)] * 2)
    assert not getattr(known, kind)._rows


def test_streams_of_one_node_and_services_that_all_of_them_call_are_one_fact_each():
    known = KnownParties()
    identities = [StreamIdentity("outbound", "envoy-1", "shop", NODE) for _ in range(8)]
    found(known, [(identity, Names(cluster)) for identity in identities for cluster in CLUSTERS])
    kept = (known.reporters, known.sources, known.destinations, known.services)
    assert [len(kind._rows) for kind in kept] == [1, 1, 1, len(CLUSTERS)]


def test_no_more_than_a_bound_is_remembered_and_the_newest_take_the_place_of_the_oldest(monkeypatch):
    monkeypatch.setattr(known_parties, "_MOST", 10)
    known = KnownParties()
    entries = [(IDENTITIES[number % 2], Names(f"outbound|80||s{number}.b")) for number in range(80)]
    for first in range(0, 80, 4):
        told = entries[first : first + 4]
        assert rows_of(found(known, told)) == worked_out(told)
        assert len(known.services._rows) <= 10
        assert {(names.cluster,) for _, names in told} <= known.services._places.keys()
    assert rows_of(found(known, entries)) == worked_out(entries)  # more in one slice than the bound
    assert len(known.services._rows) == 10

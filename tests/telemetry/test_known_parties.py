"""What is remembered of combinations of parties says what working them out anew says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.telemetry.access_log import known_parties
from mixer_py.telemetry.access_log.known_parties import KnownParties
from mixer_py.telemetry.access_log.parties import NAMES, Names, parties_of
from mixer_py.telemetry.access_log.streams import ANONYMOUS, StreamIdentity

IDENTITIES = (ANONYMOUS, StreamIdentity("inbound", "envoy-2", "shop", {"NAMESPACE": "a", "LABELS.app": "till"}))
COMBINATIONS = [
    (identity, Names(f"outbound|80||s{number}.ns{number % 3}.svc.cluster.local", peer="spiffe://x/ns/b/sa/c"))
    for number in range(40)
    for identity in IDENTITIES
]


def rows_of(columns):
    return list(zip(*(columns[name].to_pylist() for name in NAMES), strict=True))


@given(st.lists(st.lists(st.integers(0, len(COMBINATIONS) - 1), min_size=1, max_size=8), max_size=30))
@settings(deadline=None)
def test_slice_after_slice_each_entry_has_the_row_of_its_combination(slices):
    known = KnownParties()
    for entries in slices:
        distinct = sorted(set(entries))
        groups = np.array([distinct.index(entry) for entry in entries])
        columns = known.columns([COMBINATIONS[number] for number in distinct], groups)
        assert rows_of(columns) == [parties_of(*COMBINATIONS[number]).row() for number in entries]


@pytest.mark.parametrize("names", [Names("c" * 10_000), Names("c", downstream_peer=b"p" * 10_000)])
def test_what_nobody_calls_so_is_not_worth_the_room(names):
    known = KnownParties()
    for _ in range(3):
        assert rows_of(known.columns([(ANONYMOUS, names)], np.zeros(1, np.int64))) == [
            parties_of(ANONYMOUS, names).row()
        ]
    assert not known._rows


def test_no_more_than_a_bound_is_remembered_and_the_newest_take_the_place_of_the_oldest(monkeypatch):
    monkeypatch.setattr(known_parties, "_MOST", 10)
    known = KnownParties()
    for first in range(0, 80, 4):
        told = COMBINATIONS[first : first + 4]
        assert rows_of(known.columns(told, np.arange(4))) == [parties_of(*one).row() for one in told]
        assert len(known._rows) <= 10
        assert set(told) <= known._places.keys()
    columns = known.columns(COMBINATIONS, np.arange(len(COMBINATIONS)))  # more in one slice than the bound
    assert rows_of(columns) == [parties_of(*one).row() for one in COMBINATIONS]
    assert len(known._rows) == 10

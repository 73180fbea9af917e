"""What reports about connections add, whatever is lost of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mixer_py.telemetry.access_log.tracking import ConnectionTracker, Event, Report

BEGAN = 1_000
OPEN, CONTINUE, CLOSE = Event


def report(connection="a", event=CONTINUE, received=0, sent=0, *, start=BEGAN + 1, reached=True) -> Report:
    return Report(connection, event, start, received, sent, reached)


def steps(*reports: Report, tracker: ConnectionTracker | None = None) -> list[tuple[int, int, bool]]:
    made = (tracker or ConnectionTracker(BEGAN)).step(reports)
    return list(zip(made.received, made.sent, made.opened, strict=True))


def test_each_report_adds_what_came_since_the_one_before():
    assert steps(
        report(event=OPEN), report(received=10, sent=1), report("b", CLOSE, 7, 7), report(received=15, sent=1),
        report(event=CLOSE, received=15, sent=4),
    ) == [(0, 0, True), (10, 1, False), (7, 7, True), (5, 0, False), (0, 3, False)]  # fmt: skip


def test_a_connection_that_is_reported_once_counts_whole():
    assert steps(report(event=CLOSE, received=9, sent=8, start=1)) == [(9, 8, True)]


def test_an_opening_that_is_reported_twice_counts_once_and_when_its_cluster_is_known():
    assert steps(report(event=OPEN, reached=False), report(event=OPEN), report(event=CLOSE)) == [
        (0, 0, False), (0, 0, True), (0, 0, False),
    ]  # fmt: skip
    assert steps(report(event=OPEN, reached=False), report(event=CLOSE, reached=False)) == [
        (0, 0, False), (0, 0, True),
    ]  # fmt: skip


def test_a_connection_older_than_this_process_is_counted_from_its_first_report_here():
    tracker = ConnectionTracker(BEGAN)
    made = tracker.step([report(received=1_000, start=BEGAN - 1), report(received=1_010, start=BEGAN - 1)])
    assert (list(made.received), list(made.opened), made.resumed) == ([0, 10], [False, False], 1)


def test_without_an_id_or_with_one_of_a_megabyte_a_connection_counts_when_it_closes():
    for name in ("", "x" * 1_000_000):
        assert steps(report(name, OPEN), report(name, received=5), report(name, CLOSE, 9, 9)) == [
            (0, 0, False), (0, 0, False), (9, 9, True),
        ]  # fmt: skip


def test_counts_that_go_back_add_nothing():
    assert steps(report(received=10), report(received=4), report(received=12)) == [
        (10, 0, True), (0, 0, False), (2, 0, False),
    ]  # fmt: skip


def test_what_was_forgotten_is_not_counted_again():
    tracker = ConnectionTracker(BEGAN, most=1)
    steps(report("a", received=100), report("b", received=1), tracker=tracker)
    assert steps(report("a", received=150), tracker=tracker) == [(0, 0, False)]
    assert steps(report("b", CLOSE, received=5), tracker=tracker) == [(0, 0, False)]
    assert steps(report("c", CLOSE, received=5, start=BEGAN + 2), tracker=tracker) == [(5, 0, True)]


@st.composite
def lives(draw) -> tuple[list[Report], dict[str, int]]:
    """Reports of several connections, mixed, with some lost, but no ends; and what each received in all."""
    everything: list[Report] = []
    totals: dict[str, int] = {}
    names = draw(st.lists(st.sampled_from("abcdef"), unique=True, min_size=1))
    for name in names:
        counts = sorted(draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5)))
        kept = draw(st.lists(st.booleans(), min_size=len(counts), max_size=len(counts)))
        reports = [report(name, received=count) for count, keep in zip(counts, kept, strict=True) if keep]
        everything += [*reports, report(name, CLOSE, counts[-1])]
        totals[name] = counts[-1]
    order = draw(st.permutations(range(len(everything))))
    by_name = {name: iter([one for one in everything if one.connection == name]) for name in totals}
    return [next(by_name[everything[place].connection]) for place in order], totals


@given(lives(), st.integers(1, 5))
def test_whatever_is_lost_a_connection_adds_up_to_its_total_and_opens_once(life, size):
    reports, totals = life
    tracker = ConnectionTracker(BEGAN)
    added: dict[str, int] = {}
    opened: dict[str, int] = {}
    for first in range(0, len(reports), size):
        part = reports[first : first + size]
        for one, (received, _, opens) in zip(part, steps(*part, tracker=tracker), strict=True):
            added[one.connection] = added.get(one.connection, 0) + received
            opened[one.connection] = opened.get(one.connection, 0) + opens
    assert added == totals
    assert set(opened.values()) == {1}

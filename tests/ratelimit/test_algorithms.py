"""Each algorithm against a model that is slow and obviously right: exact fractions, every hit remembered."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer_py.ratelimit.algorithms import COUNT, SECOND, UNIT_SECONDS, State, Terms

NOW = 1_700_000_000 * SECOND
WINDOWS = st.sampled_from([1, 7, 1000, SECOND, 90 * SECOND, 86_400 * SECOND])
LIMITS = st.integers(0, 20) | st.just(2**32 - 1)
HITS = st.sampled_from([0, 1, 1, 1, 2, 5, 100, -1, -3])
STEPS = st.lists(st.tuples(st.floats(0, 1.3), HITS), max_size=30)
"""How long to wait before a charge, in windows, and its hits."""


def charges(window: int, steps: list[tuple[float, int]]) -> list[tuple[int, int]]:
    now, charged = NOW, []
    for wait, hits in steps:
        now += int(wait * window)
        charged.append((now, hits))
    return charged


@given(WINDOWS, LIMITS, STEPS, st.booleans())
def test_a_fixed_window_counts_what_came_since_its_start(window, limit, steps, always) -> None:
    terms, state = Terms("fixed_window", window, limit, limit), None
    used, current = 0, None
    for now, hits in charges(window, steps):
        start = now // window * window
        used, current = (used if start == current else 0), start
        state, tally = COUNT["fixed_window"](state, now, terms, hits, always=always)
        fits = hits < 0 or used + hits <= limit
        assert tally.admitted == fits
        assert tally.over == (0 if fits else min(hits, used + hits - limit) if always else hits)
        used = max(used + hits, 0) if fits or always else used
        assert tally.remaining == max(limit - used, 0)
        assert 1 <= tally.reset <= window
        assert now + tally.reset == start + window
        assert tally.retry == (0 if used < limit else tally.reset)


@given(WINDOWS, LIMITS, STEPS)
def test_a_sliding_window_weighs_the_window_before(window, limit, steps) -> None:
    terms, state = Terms("sliding_window", window, limit, limit), None
    counts: dict[int, int] = {}
    for now, hits in charges(window, steps):
        start = now // window * window
        faded = Fraction(counts.get(start - window, 0) * (start + window - now), window)
        state, tally = COUNT["sliding_window"](state, now, terms, hits, always=False)
        used = counts.get(start, 0)
        fits = hits < 0 or used + faded + hits <= limit
        if abs(used + faded + hits - limit) > Fraction(1, 10**6):  # what doubles can tell apart
            assert tally.admitted == fits
        counts[start] = max(used + hits, 0) if tally.admitted else used
        assert abs(tally.remaining - max(limit - counts[start] - faded, 0)) < 1 + 1e-6
        assert tally.over == (0 if tally.admitted else hits)


@given(WINDOWS, st.integers(1, 20), STEPS)
def test_no_sliding_window_takes_more_than_the_hits_that_came_evenly_allow(window, limit, steps) -> None:
    """In any stretch as long as the window at most twice the limit, and in each aligned one at most the limit."""
    terms, state, admitted = Terms("sliding_window", window, limit, limit), None, []
    for now, hits in charges(window, steps):
        state, tally = COUNT["sliding_window"](state, now, terms, max(hits, 0), always=False)
        admitted += [now] * (hits if tally.admitted and hits > 0 else 0)
    for end in admitted:
        assert sum(end - window < moment <= end for moment in admitted) <= 2 * limit
        assert sum(moment // window == end // window for moment in admitted) <= limit


@given(WINDOWS, st.integers(1, 20), st.integers(1, 30), STEPS)
def test_a_token_bucket_is_the_generic_cell_rate_algorithm(window, limit, burst, steps) -> None:
    """GCRA as ITU-T I.371 has it: a theoretical arrival time, put off by an interval for each hit."""
    terms, state = Terms("token_bucket", window, limit, burst), None
    interval, arrival = Fraction(window, limit), Fraction(NOW)
    for now, hits in charges(window, steps):
        state, tally = COUNT["token_bucket"](state, now, terms, hits, always=False)
        ahead = max(arrival - now, 0)
        if hits < 0:
            arrival = now + max(ahead + hits * interval, 0)
        elif abs(ahead + hits * interval - burst * interval) > interval / 10**6:
            assert tally.admitted == (ahead + hits * interval <= burst * interval)
        if hits >= 0 and tally.admitted:
            arrival = now + ahead + hits * interval
        left = burst - max(arrival - now, 0) / interval
        assert abs(tally.remaining - max(left, 0)) < 1 + 1e-6
        assert abs(tally.reset - max(arrival - now, 0)) < 2 + window / 10**6


@given(st.sampled_from(sorted(COUNT)), WINDOWS, st.integers(1, 20), STEPS)
def test_one_more_hit_fits_after_retry_and_not_before(algorithm, window, limit, steps) -> None:
    terms, state = Terms(algorithm, window, limit, limit), None
    count = COUNT[algorithm]
    for now, hits in charges(window, steps):
        state, tally = count(state, now, terms, hits, always=algorithm == "fixed_window")
        slack = 2 + window // 10**6  # roundings of doubles
        assert (tally.retry == 0) == (tally.remaining > 0)
        assert count(state, now + tally.retry + (slack if tally.retry else 0), terms, 1, always=False)[1].admitted
        if tally.retry > slack:
            assert not count(state, now + tally.retry - slack, terms, 1, always=False)[1].admitted


@given(st.sampled_from(sorted(COUNT)), WINDOWS, st.integers(1, 20), STEPS)
def test_nothing_is_counted_any_more_after_reset(algorithm, window, limit, steps) -> None:
    """So a store may forget the counter."""
    terms, state = Terms(algorithm, window, limit, limit), None
    for now, hits in charges(window, steps):
        state, tally = COUNT[algorithm](state, now, terms, hits, always=algorithm == "fixed_window")
        assert tally.reset >= 0
        after = COUNT[algorithm](state, now + tally.reset, terms, 0, always=False)[1]
        assert after.remaining >= limit - 1  # a rest below a hit may be left by rounding
        later = COUNT[algorithm](state, now + tally.reset + 1 + window // 10**6, terms, limit, always=False)[1]
        assert later.admitted


@given(st.sampled_from(sorted(COUNT)), WINDOWS, LIMITS, STEPS, st.integers(0, 40))
def test_a_look_changes_nothing(algorithm, window, limit, steps, again) -> None:
    terms, state = Terms(algorithm, window, limit, limit), None
    for now, hits in charges(window, steps):
        looked, look = COUNT[algorithm](state, now, terms, 0, always=True)
        for _ in range(again % 3):
            looked, look = COUNT[algorithm](looked, now, terms, 0, always=False)
        expected = COUNT[algorithm](state, now, terms, hits, always=False)[1]
        assert look.over == 0
        assert COUNT[algorithm](looked, now, terms, hits, always=False)[1] == expected
        state = COUNT[algorithm](state, now, terms, hits, always=False)[0]


@pytest.mark.parametrize("algorithm", sorted(COUNT))
def test_another_limit_goes_on_with_the_same_counter(algorithm: str) -> None:
    window = 60 * SECOND
    small, large = (Terms(algorithm, window, limit, limit) for limit in (10, 100))  # type: ignore[arg-type]
    state, tally = COUNT[algorithm](None, NOW, small, 10, always=False)
    assert (tally.admitted, tally.remaining) == (True, 0)
    state, tally = COUNT[algorithm](state, NOW, large, 1, always=False)
    assert (tally.admitted, tally.remaining) == (True, 89)
    assert not COUNT[algorithm](state, NOW, small, 1, always=False)[1].admitted


@pytest.mark.parametrize("algorithm", ["fixed_window", "sliding_window"])
def test_callers_whose_clocks_differ_share_the_later_window(algorithm: str) -> None:
    """Two servers on both sides of a window's start must not empty each other's counter."""
    window = 60 * SECOND
    terms, edge = Terms(algorithm, window, 100, 100), NOW // window * window + window  # type: ignore[arg-type]
    state: State | None = None
    for turn in range(10):
        state, tally = COUNT[algorithm](state, edge + (5 if turn % 2 == 0 else -5), terms, 1, always=False)
    assert tally.remaining == 90


@pytest.mark.parametrize("algorithm", sorted(COUNT))
def test_a_clock_set_back_far_begins_anew_rather_than_lock_out(algorithm: str) -> None:
    terms = Terms(algorithm, SECOND, 1, 1)  # type: ignore[arg-type]
    state, _ = COUNT[algorithm](None, NOW, terms, 1, always=False)
    back = NOW - 3600 * SECOND
    state, _ = COUNT[algorithm](state, back, terms, 0, always=False)
    assert COUNT[algorithm](state, back + 2 * SECOND, terms, 1, always=False)[1].admitted


def test_huge_numbers_of_hits_are_over_and_stay_numbers() -> None:
    for algorithm, count in COUNT.items():
        terms = Terms(algorithm, SECOND, 2**32 - 1, 2**32 - 1)  # type: ignore[arg-type]
        state, tally = count(None, NOW, terms, 2**64 - 1, always=True)
        assert not tally.admitted
        assert tally.remaining == 0
        assert state.used == 2**53


def test_units_are_the_originals() -> None:
    assert dict(UNIT_SECONDS) == {
        "SECOND": 1,
        "MINUTE": 60,
        "HOUR": 3_600,
        "DAY": 86_400,
        "WEEK": 604_800,
        "MONTH": 2_592_000,
        "YEAR": 31_536_000,
    }

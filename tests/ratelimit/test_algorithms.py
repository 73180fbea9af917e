from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mixer_py.ratelimit.algorithms import UNIT_SECONDS, is_over, remaining, seconds_until_reset, window_start

NOW = st.integers(-(10**10), 10**11)
SECONDS = st.sampled_from(list(UNIT_SECONDS.values()))
COUNT = st.integers(0, 2**70)
LIMIT = st.integers(0, 2**32 - 1)


@given(NOW, SECONDS)
def test_a_window_holds_its_now_and_is_aligned_to_the_epoch(now: int, seconds: int) -> None:
    start = window_start(now, seconds)
    assert start <= now < start + seconds
    assert start % seconds == 0


@given(NOW, SECONDS)
def test_the_reset_is_the_end_of_the_window(now: int, seconds: int) -> None:
    reset = seconds_until_reset(now, seconds)
    assert 1 <= reset <= seconds
    assert now + reset == window_start(now, seconds) + seconds


@given(NOW, SECONDS, st.integers(0, 10**8))
def test_windows_do_not_overlap(now: int, seconds: int, later: int) -> None:
    first, second = window_start(now, seconds), window_start(now + later, seconds)
    assert (second - first) % seconds == 0
    assert (first == second) == (later < seconds_until_reset(now, seconds))


@given(COUNT, LIMIT)
def test_over_and_remaining_agree(count: int, limit: int) -> None:
    left = remaining(count, limit)
    assert left == max(0, limit - count)
    assert is_over(count, limit) == (count > limit)


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

"""Columns without any text are made, and told from others, without a look at each row."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer_py.telemetry.texts import blank, has_any, is_blank, said


@pytest.mark.parametrize("length", [0, 1, 640])
def test_blank_texts_are_as_others_that_are_empty(length: int) -> None:
    made = blank(length)
    made.validate(full=True)
    assert made.equals(pa.array([""] * length, pa.string()))


@given(st.lists(st.sampled_from(["", "", None, "a", "ä"]), max_size=8), st.integers(0, 8), st.integers(0, 8))
def test_texts_are_blank_where_no_row_has_any_in_a_part_of_an_array_too(
    texts: list[str | None], first: int, length: int
) -> None:
    part = pa.array(texts, pa.string()).slice(first, length)
    assert is_blank(part) == (not any(part.to_pylist()))
    assert said(part).tolist() == [bool(text) for text in part.to_pylist()]


@given(st.lists(st.sampled_from(["", "a", "ä", "a=b", "%20", "&"])), st.integers(0, 8), st.integers(0, 8))
def test_a_mark_is_seen_in_a_row_of_the_part_and_in_no_other(texts: list[str], first: int, length: int) -> None:
    part = pa.array(texts, pa.string()).slice(first, length)
    assert has_any(part, "=%") == any("=" in text or "%" in text for text in part.to_pylist())

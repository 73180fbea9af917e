"""Descriptors as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.ratelimit.explaining.descriptors import WrittenEntry, parse_descriptor, write_descriptor


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("tenant=gold", [("tenant", "gold")]),
        ("tenant=gold,path=/a", [("tenant", "gold"), ("path", "/a")]),
        ("tenant", [("tenant", "")]),
        ("tenant=", [("tenant", "")]),
        ("token=a=b==", [("token", "a=b==")]),
        ('path="/a,b",tenant=gold', [("path", "/a,b"), ("tenant", "gold")]),
        (r'"odd=key"="say \"hi\""', [("odd=key", 'say "hi"')]),
        ('size=5"', [("size", '5"')]),
        ("one two= three ", [("one two", " three ")]),
    ],
)
def test_what_is_written_is_read(text: str, entries: list[tuple[str, str]]) -> None:
    assert list(parse_descriptor(text)) == entries


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at character 1 of '' a key was expected"),
        ("a=b,", "at character 5"),
        ("a=b,,c=d", "at character 5"),
        ("=b", "at character 1"),
        ('""=b', "a key is empty"),
        ('a="b"c', "at character 6 of .* a comma was expected"),
        ('a="b', "the quote at character 3 of .* does not end"),
        (r'a="\q"', "is no JSON string"),
    ],
)
def test_what_cannot_be_read_says_where(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_descriptor(text)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(deadline=None)
@given(st.lists(st.builds(WrittenEntry, texts.filter(bool), texts), min_size=1, max_size=4))
def test_what_is_written_by_us_is_read_back(entries: list[WrittenEntry]) -> None:
    assert list(parse_descriptor(write_descriptor(entries))) == entries

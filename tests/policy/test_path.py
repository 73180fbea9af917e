"""Paths and queries are split as opa-envoy-plugin splits them, held against a reference written the long way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer_py.errors import RequestParseError
from mixer_py.policy.document.path import parse_query, split_path

HEX = "0123456789abcdefABCDEF"
TEXT = st.text(st.sampled_from("ab/%2F+=&;?#é*:.\\ 0fFgG\x00"), max_size=24)


def reference_unescape(text: str) -> str | None:
    """Octet by octet; None for a bad escape."""
    octets, position = bytearray(), 0
    while position < len(text):
        if text[position] != "%":
            octets += text[position].encode()
            position += 1
            continue
        digits = text[position + 1 : position + 3]
        if len(digits) < 2 or any(digit not in HEX for digit in digits):
            return None
        octets.append(int(digits, 16))
        position += 3
    return octets.decode("utf-8", "replace")


def reference_query(query: str) -> dict[str, list[str]] | None:
    values: dict[str, list[str]] = {}
    for pair in query.split("&"):
        if ";" in pair:
            return None
        if pair == "":
            continue
        name, value = [*pair.split("=", 1), ""][:2]
        decoded = [reference_unescape(part.replace("+", " ")) for part in (name, value)]
        if decoded[0] is None or decoded[1] is None:
            return None
        values[decoded[0]] = [*values.get(decoded[0], []), decoded[1]]
    return values


@given(TEXT)
def test_path_is_decoded_then_trimmed_then_split(path: str) -> None:
    decoded = reference_unescape(path)
    if decoded is None:
        with pytest.raises(RequestParseError, match="invalid URL escape"):
            split_path(path)
        return
    while decoded.startswith("/"):
        decoded = decoded[1:]
    assert split_path(path) == decoded.split("/")


@given(TEXT)
def test_query_is_parsed_as_go_does(query: str) -> None:
    wanted = reference_query(query)
    if wanted is None:
        with pytest.raises(RequestParseError):
            parse_query(query)
    else:
        assert parse_query(query) == wanted


@given(st.lists(st.text(max_size=8), min_size=1, max_size=5))
def test_an_encoded_path_comes_back(segments: list[str]) -> None:
    encoded = "".join(f"%{octet:02X}" for octet in "/".join(segments).encode())
    assert split_path("/" + encoded) == "/".join(segments).lstrip("/").split("/")


def test_octets_that_are_no_utf8_are_replaced() -> None:
    assert split_path("/%ff%41") == ["\ufffdA"]

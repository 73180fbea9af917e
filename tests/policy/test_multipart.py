"""Multipart bodies as Go reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer_py.errors import RequestParseError
from mixer_py.policy.document.multipart import Part, media_type_parameters, parse_parts

CONTENT = st.binary(max_size=20).filter(lambda content: b"--B" not in content)


def encode(parts: list[tuple[str, bytes]], newline: bytes) -> bytes:
    lines = []
    for name, content in parts:
        disposition = f'Content-Disposition: form-data; name="{name}"'.encode()
        lines += [b"--B", disposition, b"", content]
    return newline.join([*lines, b"--B--", b""])


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c d"]), CONTENT), min_size=1, max_size=4), st.booleans())
def test_what_was_encoded_comes_back(parts: list[tuple[str, bytes]], bare: bool) -> None:
    payload = encode(parts, b"\n" if bare else b"\r\n")
    assert [(part.name, part.content) for part in parse_parts(payload, "B")] == parts


@given(st.binary(max_size=60) | st.text(st.sampled_from('-B\r\n :;=ax"'), max_size=60).map(str.encode))
def test_any_octets_are_parts_or_a_parse_error(payload: bytes) -> None:
    try:
        parts = parse_parts(payload, "B")
    except RequestParseError:
        return
    assert all(isinstance(part, Part) for part in parts)


@given(st.integers(0, 200))
def test_a_body_that_was_cut_off_is_refused(length: int) -> None:
    payload = encode([("a", b"one"), ("b", b"two")], b"\r\n").rstrip(b"\r\n")
    if length < len(payload) - 1:
        with pytest.raises(RequestParseError):
            parse_parts(payload[:length], "B")


def test_preamble_epilogue_and_nameless_parts() -> None:
    payload = b"preamble\r\n--B  \r\nX: 1\r\n\r\nno name\r\n--B--\r\nepilogue"
    assert parse_parts(payload, "B") == [Part("", "", b"no name")]


def test_a_longer_boundary_within_content_does_not_end_a_part() -> None:
    payload = b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--BB\r\ny\r\n--B--\r\n'
    assert parse_parts(payload, "B")[0].content == b"x\r\n--BB\r\ny"


def test_an_empty_part() -> None:
    payload = b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n--B--\r\n'
    assert parse_parts(payload, "B") == [Part("a", "", b"")]


def test_quoted_printable_is_decoded() -> None:
    payload = (
        b'--B\r\nContent-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: Quoted-Printable\r\n\r\n'
        b"caf=C3=A9\r\n--B--\r\n"
    )
    assert parse_parts(payload, "B")[0].text() == "café"


@pytest.mark.parametrize(
    "headers",
    [
        b'Content-Disposition: form-data; name="a"\r\nContent-Disposition: form-data; name="b"\r\n',
        b"Content-Disposition: form-data; name*=UTF-8''a\r\n",
        b'Content-Disposition: form-data; name="a"; name="b"\r\n',
        b"no colon\r\n",
        b" folded first\r\n",
    ],
)
def test_a_part_that_can_be_read_in_two_ways_is_refused(headers: bytes) -> None:
    with pytest.raises(RequestParseError):
        parse_parts(b"--B\r\n" + headers + b"\r\nx\r\n--B--\r\n", "B")


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("multipart/form-data", {}),
        ("multipart/form-data;", {}),
        ("multipart/form-data; Boundary=B", {"boundary": "B"}),
        ('multipart/form-data; boundary="a \\"b\\""; charset=utf-8', {"boundary": 'a "b"', "charset": "utf-8"}),
    ],
)
def test_parameters(value: str, wanted: dict[str, str]) -> None:
    assert media_type_parameters(value) == wanted


@pytest.mark.parametrize(
    "value", ["a/b; boundary", "a/b; boundary=", "a/b; =B", "a/b; boundary=a b", 'a/b; boundary="B']
)
def test_malformed_parameters(value: str) -> None:
    with pytest.raises(RequestParseError):
        media_type_parameters(value)


@pytest.mark.parametrize("last", [b"--B--\n", b"--B-- x\r\n"])
def test_the_last_boundary_ends_like_the_others(last: bytes) -> None:
    """In a body whose lines end in CRLF, LF alone ends none, as in Go."""
    with pytest.raises(RequestParseError):
        parse_parts(b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' + last, "B")


@pytest.mark.parametrize("value", ["multipart/form-data boundary=B", "x multipart/form-data; boundary=B", "a/b/c", ""])
def test_a_media_type_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(RequestParseError, match="malformed media type"):
        media_type_parameters(value)


def test_octets_that_are_no_text_are_replaced_one_by_one() -> None:
    payload = b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xe2\x82x\r\n--B--\r\n'
    assert parse_parts(payload, "B")[0].text() == "\ufffd\ufffdx"

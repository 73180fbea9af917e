"""gRPC's framing over bytes, as properties."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer_py.errors import CardinalityError, FramingError, MessageTooLargeError, MixerError, UnsupportedEncodingError
from mixer_py.transports.envoy.framing import PREFIX_BYTES, frame, percent_encoded, timeout_seconds, unframe

MOST = 1000
MESSAGES = st.binary(max_size=MOST)


@given(MESSAGES)
def test_a_frame_is_read_back(message: bytes):
    assert unframe(frame(message), b"", MOST) == message


@given(MESSAGES, st.data())
def test_a_body_that_is_cut_off_is_never_a_message(message: bytes, data: st.DataObject):
    body = frame(message)
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(CardinalityError if cut == 0 else FramingError):
        unframe(body[:cut], b"", MOST)


@given(MESSAGES, st.binary(min_size=1, max_size=50))
def test_more_than_one_message_is_refused(message: bytes, more: bytes):
    with pytest.raises(CardinalityError):
        unframe(frame(message) + more, b"", MOST)


@given(st.binary(max_size=100), st.sampled_from([b"", b"identity", b"gzip", b"deflate", b"snappy"]))
def test_any_bytes_are_a_message_or_a_fault_with_a_status(body: bytes, encoding: bytes):
    with contextlib.suppress(MixerError):  # each has a status
        assert len(unframe(body, encoding, MOST)) <= MOST


@pytest.mark.parametrize(("encoding", "compress"), [(b"gzip", gzip.compress), (b"deflate", zlib.compress)])
def test_compressed_messages_are_held_to_the_same_size(encoding, compress):
    def body(message: bytes) -> bytes:
        return b"\1" + frame(compress(message))[1:]

    assert unframe(body(b"x" * MOST), encoding, MOST) == b"x" * MOST
    with pytest.raises(MessageTooLargeError):
        unframe(body(b"x" * (MOST + 1)), encoding, MOST)
    cut = compress(b"abc" * 100)[:-4]
    with pytest.raises(FramingError):
        unframe(b"\1" + frame(cut)[1:], encoding, MOST)
    with pytest.raises(FramingError, match="more follows"):
        unframe(b"\1" + frame(compress(b"abc") + b"more")[1:], encoding, MOST)


@pytest.mark.parametrize(
    ("flag", "encoding", "wanted"),
    [
        (1, b"", FramingError),
        (1, b"identity", FramingError),
        (1, b"snappy", UnsupportedEncodingError),
        (2, b"gzip", FramingError),
    ],
)
def test_a_compression_that_is_not_known_or_not_named_is_refused(flag: int, encoding: bytes, wanted: type[MixerError]):
    with pytest.raises(wanted):
        unframe(bytes((flag,)) + frame(b"abc")[1:], encoding, MOST)


def test_a_message_that_is_too_large_is_refused_by_its_prefix():
    with pytest.raises(MessageTooLargeError):
        unframe(b"\0" + (MOST + 1).to_bytes(4, "big"), b"", MOST)
    assert len(frame(b"")) == PREFIX_BYTES


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(b"1S", 1), (b"99999999n", 0.099999999), (b"2H", 7200), (b"3M", 180), (b"50m", 0.05), (b"7u", 7e-6)],
)
def test_timeouts(text: bytes, seconds: float):
    assert timeout_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", [b"", b"S", b"1", b"1x", b"-1S", b"1.5S", b"123456789S", b"+1S", b" 1S", b"\xb2S"])
def test_what_is_no_timeout_is_a_fault(text: bytes):
    with pytest.raises(FramingError):
        timeout_seconds(text)


@given(st.text())
def test_messages_of_statuses_are_printable_and_read_back(text: str):
    encoded = percent_encoded(text)
    assert all(0x20 <= byte < 0x7F for byte in encoded)
    assert unquote(encoded.decode()) == text.encode("utf-8", "replace").decode()

"""Values are read back as they are written."""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from mixer_py.config import Address, parse_address
from mixer_py.settings import (
    Duration,
    Settings,
    Size,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


class Written(Settings):
    """Both kinds in one section."""

    duration: Duration
    """A duration."""
    size: Size
    """A size."""


UNITS = st.sampled_from(["ns", "us", "ms", "s", "m", "h", "d"])


@given(st.lists(st.tuples(st.integers(0, 10**6), UNITS), min_size=1, max_size=4), st.integers(0, 2**60))
@example([(86400040, "ms")], 0)
@example([(1, "ns"), (1, "d")], 1023)
@example([(0, "s")], 1 << 40)
def test_a_dump_of_durations_and_sizes_loads_to_the_same(parts, size):
    text = "".join(f"{count}{unit}" for count, unit in parts)
    written = Written.model_validate({"duration": text, "size": size})
    read = Written.model_validate(written.model_dump(mode="json"))
    assert read.duration == pytest.approx(written.duration, rel=1e-11, abs=0)
    assert read.size == written.size
    assert Written.model_validate_json(read.model_dump_json()) == Written.model_validate(read)


@given(st.floats(min_value=0, max_value=1e12, allow_nan=False))
@example(1e-10)
@example(5e-324)
def test_any_duration_is_written_so_that_it_can_be_read(seconds):
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-11, abs=0)


@given(st.integers(0, 2**63))
def test_any_size_is_written_so_that_it_can_be_read(size):
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    "text", ["", "s", "1", "1 s", "-1s", "1s1", "1.s", ".5s", "1e3s", "1sec", "infs", 1, True, None]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "-1", "1.5MiB", "MiB", "1 mib", True, None, "1MiB2"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


HOSTS = st.one_of(
    st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)
ADDRESSES = st.one_of(
    st.builds(Address, HOSTS, st.integers(0, 65535)),
    st.from_regex(r"/[a-z0-9/._-]{1,50}", fullmatch=True).map(lambda path: Address(path=path)),
)


@given(ADDRESSES)
def test_an_address_is_read_back(address):
    assert parse_address(str(address)) == address
    assert parse_address(address) is address


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        assert parse_address(str(parse_address(text))) == parse_address(text)


def test_a_socket_path_that_the_kernel_would_cut_is_refused():
    assert parse_address("unix:///" + "x" * 101).is_unix
    with pytest.raises(ValueError, match="too long"):
        parse_address("unix:///" + "x" * 102)


def test_sizes_and_durations_have_a_schema_of_their_own():
    assert TypeAdapter(Size).dump_python(4 << 20) == "4MiB"
    assert TypeAdapter(Duration).dump_python(0.15) == "150ms"

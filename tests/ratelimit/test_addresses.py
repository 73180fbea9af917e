"""What `rate_limit.store` may say, and what a fault says instead."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer_py.ratelimit.stores.addresses import RedisAddress, parse_store


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("redis://host", RedisAddress("single", (("host", 6379),))),
        ("redis://me@host:7000/3", RedisAddress("single", (("host", 7000),), database=3, user="me")),
        ("rediss://m%40e@[::1]:7000", RedisAddress("single", (("::1", 7000),), user="m@e", secure=True)),
        ("unix:///run/valkey.sock", RedisAddress("unix", path="/run/valkey.sock")),
        ("unix:///a%20b?db=2", RedisAddress("unix", path="/a b", database=2)),
        (
            "redis+sentinel://a,b:7/main/1",
            RedisAddress("sentinel", (("a", 26379), ("b", 7)), database=1, master="main"),
        ),
        ("rediss+sentinel://a/main", RedisAddress("sentinel", (("a", 26379),), secure=True, master="main")),
        ("redis+cluster://me@a,b:7", RedisAddress("cluster", (("a", 6379), ("b", 7)), user="me")),
        ("rediss+cluster://a/0", RedisAddress("cluster", (("a", 6379),), secure=True)),
    ],
)
def test_what_names_a_store(uri: str, address: RedisAddress) -> None:
    assert parse_store(uri) == address


def test_memory_has_no_address() -> None:
    assert parse_store("memory://") is None


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("", "no address of a counter store; write memory://, redis://"),
        ("memory", "no address of a counter store"),
        ("memcached://host", "no address of a counter store"),
        ("redis:/host", "no address of a counter store"),
        ("redis://:secret@host", "a password does not belong into the address; write redis: {password:"),
        ("redis://me:secret@host", "a password does not belong"),
        ("redis://", "'' is no host; write host:6379"),
        ("redis://me@", "'' is no host"),
        ("redis://host:port", "'host:port' is no host"),
        ("redis://host:0", "0 is not a port"),
        ("redis://host:65536", "65536 is not a port"),
        ("redis://::1", "with IPv6 in brackets"),
        ("redis://host/a", "'a' is no number of a database"),
        ("redis://host/1/2", "nothing may follow the database"),
        ("redis://host?db=1", "nothing may follow the database"),
        ("redis://host/0#x", "nothing may follow the database"),
        ("redis://a,b", r"several hosts; write redis\+cluster:// or redis\+sentinel://"),
        ("redis+sentinel://a,b", r"names no master; write redis\+sentinel://"),
        ("redis+cluster://a/1", "a cluster has database 0 only; leave /1 out"),
        ("redis+cluster://a,,b", "'' is no host"),
        ("unix://run/valkey.sock", "names no unix socket; write an absolute path"),
        ("unix:///", "names no unix socket"),
        (f"unix:///{'a' * 120}", "too long for a unix socket: at most 107 bytes"),
        ("unix:///a?database=1", "only .db= may follow the path, not database"),
        ("unix:///a?db=x", "'x' is no number of a database"),
    ],
)
def test_what_names_none_is_told_with_a_way_out(uri: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_store(uri)


@given(st.text(max_size=30) | st.text(alphabet="redis+clutn:/@,[]?#%0123456789 x", max_size=40).map("redis://".__add__))
def test_any_text_is_an_address_or_a_fault(uri: str) -> None:
    with contextlib.suppress(ValueError):
        parse_store(uri)


@given(st.text(alphabet="abc:@/%", min_size=1))
def test_no_fault_tells_a_password(secret: str) -> None:
    with pytest.raises(ValueError, match="a password does not belong into the address") as caught:
        parse_store(f"redis://me:hidden{secret}hidden@host")
    assert "hidden" not in str(caught.value)

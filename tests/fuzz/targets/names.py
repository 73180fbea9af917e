"""SPIFFE names, paths and queries: read as an independent reader reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from mixer_py.attributes import spiffe
from mixer_py.errors import RequestParseError
from mixer_py.policy.document.path import parse_query, split_path

_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")


def check(data: bytes) -> None:
    text = data.decode("utf-8", "ignore")
    _check_principal(text)
    _check_path(text)
    _check_query(text)


def _check_principal(text: str) -> None:
    for principal in (text, f"spiffe://{text}"):
        found = spiffe.parse(principal)
        if found is None:
            continue
        assert str(found) == principal, "an id is written as it was read"
        assert not {"", ".", ".."} & set(found.path), "a segment that leads elsewhere"
        assert principal.isascii() and principal.isprintable(), "an id with letters that SPIFFE does not know"
        assert "%" not in principal and "/" not in found.namespace + found.service_account


def _check_path(text: str) -> None:
    path = text.partition("?")[0]
    try:
        segments = split_path(path)
    except RequestParseError:
        assert _BAD_ESCAPE.search(path), "a good path was refused"
        return
    assert not _BAD_ESCAPE.search(path), "a bad escape was taken"
    octets = unquote_to_bytes(path).lstrip(b"/")
    assert len(segments) == octets.count(b"/") + 1, "a slash was lost, or made"
    if _is_text(octets):
        assert "/".join(segments).encode() == octets


def _check_query(text: str) -> None:
    query = text.partition("?")[2]
    try:
        values = parse_query(query)
    except RequestParseError:
        assert _BAD_ESCAPE.search(query) or ";" in query, "a good query was refused"
        return
    pairs = [pair for pair in query.split("&") if pair]
    assert sum(map(len, values.values())) == len(pairs), "one value a pair"
    for pair in pairs:
        name = unquote_to_bytes(pair.partition("=")[0].replace("+", " "))
        if _is_text(name):
            assert name.decode() in values, "a name was lost"


def _is_text(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def seeds() -> Iterator[bytes]:
    yield b"spiffe://cluster.local/ns/shop/sa/web"
    yield b"cluster.local/ns/sa/sa/ns?a=1&b=%20+&a=;"
    yield b"//admin/%2e%2e/%2fx?x=%zz"
    yield "/ü/%c3%bc/%ff%fe/%e2%82?%c3=%bc&&=&".encode()

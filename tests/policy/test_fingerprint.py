"""Fingerprints: requests that have the same one are the same to the decision, and refused by nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.policy.document.fingerprint import Fingerprint, is_long
from mixer_py.policy.document.input import InputBuilder
from mixer_py.policy.document.projection import Projection
from tests.policy.generated_policies import requests

INPUTS = InputBuilder()
HTTP = ("attributes", "request", "http")
TAKEN = [
    (*HTTP, "method"),
    (*HTTP, "path"),
    (*HTTP, "size"),
    (*HTTP, "headers", "x-a"),
    (*HTTP, "headers", "x-b"),
    ("attributes", "source", "principal"),
    ("attributes", "destination", "principal"),
    ("attributes", "source", "address", "socketAddress", "address"),
    ("attributes", "source", "address", "pipe", "path"),
    ("parsed_path",),
    ("parsed_query",),
    ("source_principal",),
]
NOT_TAKEN = [
    HTTP,
    ("attributes",),
    (*HTTP, "headers"),
    (*HTTP, "headers", "x-a", "deeper"),
    (*HTTP, "method", "deeper"),
    (*HTTP, "nothing"),
    ("attributes", "request", "time", "seconds"),
    ("attributes", "contextExtensions", "tenant"),
    ("attributes", "metadataContext", "filterMetadata", "a", "b"),
    ("parsed_query", "a"),
    ("parsed_body",),
    ("truncated_body",),
    ("version",),
]


@settings(max_examples=400, deadline=None)
@given(
    some_requests=st.lists(requests(), min_size=10, max_size=10),
    paths=st.lists(st.sampled_from(TAKEN), unique=True, max_size=4),
)
def test_equal_fingerprints_are_equal_documents(
    some_requests: list[CheckRequest], paths: list[tuple[str, ...]]
) -> None:
    fingerprint, projection = Fingerprint("d", paths, INPUTS), Projection(paths, INPUTS)
    texts: dict[object, str] = {}
    for request in (*some_requests, CheckRequest()):
        taken = fingerprint.take(request)
        if taken is not None:
            text = projection.build(request)
            assert texts.setdefault(taken, text) == text, (taken, paths)


@pytest.mark.parametrize("path", NOT_TAKEN, ids=".".join)
def test_what_has_to_be_parsed_or_walked_has_none(path: tuple[str, ...]) -> None:
    with pytest.raises(LookupError):
        Fingerprint("d", [(*HTTP, "method"), path], INPUTS)


@pytest.mark.parametrize(
    "request_fields",
    [
        {"path": ""},
        {"path": "/%41"},
        {"path": "/%zz"},
        {"path": "/?a=%zz"},
        {"path": "/?a;b"},
        {"path": "/", "body": "{", "headers": {"content-type": "application/json"}},
    ],
)
def test_a_request_that_has_to_be_parsed_has_none(request_fields, make_request: Callable[..., CheckRequest]) -> None:
    assert Fingerprint("d", [(*HTTP, "method")], INPUTS).take(make_request(**request_fields)) is None


def test_absent_and_empty_are_told_apart(make_request: Callable[..., CheckRequest]) -> None:
    header = Fingerprint("d", [(*HTTP, "headers", "x-a")], INPUTS)
    absent, empty = make_request("/", headers={"x-b": "1"}), make_request("/", headers={"x-a": ""})
    none = make_request("/")
    assert len({header.take(absent), header.take(empty), header.take(none)}) == 3
    principal = Fingerprint("d", [("attributes", "source", "principal")], INPUTS)
    there = make_request("/")
    there.attributes.source.principal = "a"
    assert principal.take(there) is not None
    there.attributes.source.principal = ""
    assert principal.take(there) is None, "source is there, and of another request it may not be"


def test_decisions_are_told_apart_and_long_ones_known(make_request: Callable[..., CheckRequest]) -> None:
    request = make_request("/" + "a" * 300)
    one, other = (Fingerprint(name, [("parsed_path",)], INPUTS).take(request) for name in ("one", "other"))
    assert one is not None
    assert one != other
    assert is_long(one)
    short = Fingerprint("one", [("parsed_path",)], INPUTS).take(make_request("/a"))
    assert short is not None
    assert not is_long(short)

"""A bag gives what a check holds, nothing else, and reads each attribute once."""

import contextlib

import pytest
from envoy.service.auth.v3.attribute_context_pb2 import AttributeContext
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from mixer_py.attributes import ATTRIBUTES, ValueType, bag
from mixer_py.attributes.bag import Bag

PYTHON = {
    ValueType.STRING: str,
    ValueType.IP_ADDRESS: str,
    ValueType.INT64: int,
    ValueType.TIMESTAMP: int,
    ValueType.DURATION: float,
    ValueType.BOOL: bool,
    ValueType.STRING_MAP: dict,
}


def check() -> AttributeContext:
    context = AttributeContext()
    for peer, name, port in ((context.source, "caller", 40000), (context.destination, "reviews", 9080)):
        peer.principal = f"spiffe://cluster.local/ns/mesh/sa/{name}"
        peer.address.socket_address.address = "10.0.0.1"
        peer.address.socket_address.port_value = port
    context.destination.labels["app"] = "reviews"
    http = context.request.http
    http.method, http.scheme, http.path = "GET", "https", "/a/b?x=1&x=2&y=#frag"
    http.host = "reviews.shop.svc.cluster.local:9080"
    http.size = 0
    http.headers.update(
        {
            "x-request-id": "id",
            "x-forwarded-for": "1.2.3.4, 5.6.7.8",
            "user-agent": "curl",
            "content-type": "text/plain",
        }
    )
    context.request.time.seconds, context.request.time.nanos = 5, 7
    context.context_extensions["context.reporter.kind"] = "inbound"
    context.tls_session.sni = "reviews"
    return context


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source.ip", "10.0.0.1"),
        ("source.principal", "spiffe://cluster.local/ns/mesh/sa/caller"),
        ("source.namespace", "mesh"),
        ("source.workload.name", "caller"),
        ("source.serviceAccount", "caller"),
        ("source.labels", None),
        ("destination.port", 9080),
        ("destination.labels", {"app": "reviews"}),
        ("destination.service.host", "reviews.shop.svc.cluster.local"),
        ("destination.service.name", "reviews"),
        ("destination.service.namespace", "shop"),
        ("origin.ip", "1.2.3.4"),
        ("request.id", "id"),
        ("request.path", "/a/b?x=1&x=2&y=#frag"),
        ("request.url_path", "/a/b"),
        ("request.query_params", {"x": "1", "y": ""}),
        ("request.method", "GET"),
        ("request.useragent", "curl"),
        ("request.referer", None),
        ("request.size", 0),
        ("request.time", 5_000_000_007),
        ("request.auth.principal", None),
        ("request.auth.claims", {}),
        ("connection.mtls", True),
        ("connection.requested_server_name", "reviews"),
        ("context.protocol", "http"),
        ("context.reporter.kind", "inbound"),
        ("response.code", None),
        ("context.timestamp", None),
    ],
)
def test_each_attribute_is_read_from_its_place(name, value):
    assert Bag(check()).get(name) == value


def test_an_empty_check_has_almost_nothing():
    filled = {attribute.name: Bag(AttributeContext()).get(attribute.name) for attribute in ATTRIBUTES}
    assert {name: value for name, value in filled.items() if value not in (None, {})} == {
        "connection.mtls": False,
        "context.protocol": "http",
        "request.size": 0,
    }


@given(st.data())
def test_whatever_parses_gives_values_of_the_declared_types(data):
    message = bytearray(check().SerializeToString())
    for _ in range(data.draw(st.integers(0, 5))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    context = AttributeContext()
    with contextlib.suppress(DecodeError):  # what was parsed before the fault stays
        context.ParseFromString(bytes(message))
    for attribute in ATTRIBUTES:
        value = Bag(context).get(attribute.name)
        assert value is None or type(value) is PYTHON[attribute.value_type]


def test_headers_sent_raw_are_read_alike():
    context = AttributeContext()
    for key, value in (("x-request-id", b"id"), ("accept", b"a"), ("accept", b"\xff")):
        context.request.http.header_map.headers.add(key=key, raw_value=value)
    attributes = Bag(context)
    assert attributes.get("request.id") == "id"
    assert attributes.get("request.headers") == {"x-request-id": "id", "accept": "a,\ufffd"}


def test_a_checked_token_gives_its_claims():
    context = AttributeContext()
    context.metadata_context.filter_metadata["envoy.filters.http.jwt_authn"].update(
        {"other": "x", "payload": {"iss": "issuer", "sub": "user", "aud": ["a", "b"], "azp": "app", "exp": 5}}
    )
    attributes = Bag(context)
    assert attributes.get("request.auth.principal") == "issuer/user"
    assert attributes.get("request.auth.audiences") == "a,b"
    assert attributes.get("request.auth.presenter") == "app"
    assert attributes.get("request.auth.claims") == {
        "iss": "issuer", "sub": "user", "aud": "a,b", "azp": "app", "exp": "5",
    }  # fmt: skip


def test_an_unknown_size_is_none():
    context = AttributeContext()
    context.request.http.size = -1
    assert Bag(context).get("request.size") is None


@pytest.mark.parametrize(
    ("host", "wanted", "name"),
    [
        ("[::1]:80", "[::1]", "[::1]"),
        ("10.0.0.1:80", "10.0.0.1", "10.0.0.1"),
        ("a.b", "a.b", "a"),
        ("a:", "a", "a"),
        ("", None, None),
    ],
)
def test_hosts_lose_their_port_and_addresses_stay_whole(host, wanted, name):
    context = AttributeContext()
    context.request.http.host = host
    assert Bag(context).get("destination.service.host") == wanted
    assert Bag(context).get("destination.service.name") == name


def test_an_attribute_is_read_once(monkeypatch):
    context, reads = check(), []
    monkeypatch.setattr(bag, "READERS", {"source.ip": lambda got: reads.append(got) or "1"})
    attributes = Bag(context)
    assert [attributes.get("source.ip"), attributes.get("source.ip")] == ["1", "1"]
    assert len(reads) == 1


def test_unknown_names_are_errors_and_text_is_never_none():
    attributes = Bag(AttributeContext())
    with pytest.raises(KeyError, match=r"source\.ipp"):
        attributes.get("source.ipp")
    assert attributes.text("source.ip") == ""

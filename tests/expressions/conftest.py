"""Attributes of one check, as a bag and as a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from envoy.service.auth.v3.attribute_context_pb2 import AttributeContext

from mixer_py.attributes.bag import Bag
from mixer_py.expressions import VOCABULARY, compile_expression


@pytest.fixture
def bag() -> Bag:
    context = AttributeContext()
    context.source.principal = "spiffe://cluster.local/ns/shop/sa/web"
    context.source.address.socket_address.address = "10.1.2.3"
    context.destination.address.socket_address.port_value = 9080
    context.destination.labels["app"] = "reviews"
    context.request.time.seconds = 1_234_567_890  # Friday, 2009-02-13T23:31:30Z
    http = context.request.http
    http.method, http.host, http.path, http.size = "POST", "reviews.shop.svc.cluster.local:9080", "/a/b?x=1", 2048
    http.headers.update({"x-tenant": "gold", "x-cost": "7", "user-agent": "curl/8"})
    claims = context.metadata_context.filter_metadata["envoy.filters.http.jwt_authn"]
    claims.update({"payload": {"iss": "https://issuer", "sub": "me", "tier": "free"}})
    return Bag(context)


def value(text: str, attributes: Mapping[str, Any] | Bag | None = None) -> Any:
    """The value of a text over attributes; any of the vocabulary may be used."""
    return compile_expression(text, scope=VOCABULARY).evaluate({} if attributes is None else attributes)

"""The keys of `policy:`."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mixer_py.policy.settings import OpaSettings, PolicySettings


def test_defaults_are_the_contracts() -> None:
    settings = PolicySettings()
    assert settings.decision == "envoy/authz/allow"
    assert settings.on_error == "error"
    assert settings.max_stall == 1.0
    assert settings.cache.entries == 10000
    assert settings.cache.ttl == 60.0
    assert PolicySettings(decision="/a/b/").decision == "a/b"


@pytest.mark.parametrize(
    ("keys", "place", "message"),
    [
        ({"cache": {"entries": -1}}, ("cache", "entries"), "greater than or equal to 0"),
        ({"cache": {"uses": 0}}, ("cache", "uses"), "greater than or equal to 1"),
        ({"decision": ""}, ("decision",), "is no path of a rule"),
        ({"decision": "a//b"}, ("decision",), "is no path of a rule"),
        ({"max_stall": "0s"}, ("max_stall",), "must be above 0"),
        ({"on_error": "ignore"}, ("on_error",), "error"),
        ({"unknown": 1}, ("unknown",), "not permitted"),
    ],
)
def test_wrong_values_are_refused_at_their_place(keys: dict[str, Any], place: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        PolicySettings(**keys)
    (error,) = caught.value.errors()
    assert error["loc"] == place
    assert message in error["msg"]


def test_defaults_may_be_written_out() -> None:
    PolicySettings(engine="embedded", cache={"entries": 10000, "ttl": "60s"}, proto_descriptor=None)
    PolicySettings(cache={"entries": 0, "ttl": "5s", "uses": None})


@pytest.mark.parametrize(
    "url",
    [
        "opa:8181",
        "http://",
        "ftp://opa",
        "http://opa/v1",
        "http://opa?x",
        "unix://host/s",
        "unix://",
        "http://opa:99999",
    ],
)
def test_what_is_no_address_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="is no"):
        OpaSettings(url=url)


def test_a_password_does_not_belong_into_an_address() -> None:
    with pytest.raises(ValidationError, match=r"write policy\.opa\.token"):
        OpaSettings(url="http://user:password@opa")


@pytest.mark.parametrize("keys", [{"bundles": ["x"]}, {"data_hosts": ["h"], "data": {"a": {"url": "https://h/x"}}}])
def test_policies_and_data_are_opas(keys: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"policies and data are OPA's; leave (bundles|data) out"):
        PolicySettings(engine="opa", **keys)

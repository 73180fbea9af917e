"""The keys of `policy:`."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mixer_py.policy.settings import PolicySettings


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

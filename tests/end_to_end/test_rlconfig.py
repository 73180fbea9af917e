"""`/rlconfig` shows the limits in force, and what stands in the counters of a descriptor now."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.parts.grpc_client import Client, connect
from tests.parts.mixer_process import Mixer
from tests.ratelimit.rate_limit_cases import request_of

RULES = """\
domain: shop
descriptors:
  - key: tenant
    rate_limit: {unit: year, requests_per_unit: 5}
  - key: path
    rate_limit: {unit: year, requests_per_unit: 3, algorithm: sliding_window}
"""


@pytest.fixture(scope="module")
def mixer(module_programs, ports, tmp_path_factory) -> Mixer:
    mixer = Mixer(module_programs, ports, tmp_path_factory.mktemp("rlconfig"))
    mixer.write("limits.yaml", RULES)
    mixer.configure({"rate_limit": {"config": ["limits.yaml"]}})
    mixer.start()
    return mixer


def page(mixer: Mixer, query: str = "", status: int = 200) -> dict[str, Any]:
    answer = mixer.get(f"/rlconfig{query}")
    assert answer.status == status, answer
    shown: dict[str, Any] = json.loads(answer.body)
    return shown


def charge(client: Client, key: str, value: str) -> None:
    client.limit(request_of({"domain": "shop", "descriptors": [{"entries": [{"key": key, "value": value}]}]}))


def test_the_rules(mixer: Mixer) -> None:
    shown = page(mixer)
    assert [rule["rule"] for rule in shown["limits"]] == ["shop/tenant", "shop/path"]
    assert shown["revision"] == mixer.revision()


def test_live_counters(mixer: Mixer) -> None:
    with connect(mixer.address) as client:
        for _ in range(2):
            charge(client, "tenant", "gold")
        charge(client, "path", "/a,b=c&d")
    odd = quote('path="/a,b=c&d"')
    shown = page(mixer, f"?domain=shop&descriptor=tenant=gold&descriptor={odd}&descriptor=colour=blue")
    tenant, path, colour = shown["counters"]
    assert (tenant["rule"], tenant["used"], tenant["remaining"]) == ("shop/tenant", 2, 3)
    assert 0 < tenant["reset_seconds"] <= 31_536_000
    assert (path["descriptor"], path["used"]) == ([{"key": "path", "value": "/a,b=c&d"}], 1)
    assert path["algorithm"] == "sliding_window"
    assert colour["rule"] is None
    again = page(mixer, "?descriptor=tenant=gold")  # the only domain need not be named, and a look charges nothing
    assert again["counters"][0]["used"] == 2


def test_looks_are_not_counted(mixer: Mixer) -> None:
    before = mixer.metrics("mixer_rate_limit")
    page(mixer, "?descriptor=tenant=looked_at")
    assert mixer.metrics("mixer_rate_limit") == before


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?descriptor==b", "a key was expected"),
        ("?domain=shop", "descriptor: give at least one"),
        ("?tenant=gold", "tenant: ask with domain= and descriptor=key=value,key=value"),
        ("?" + "&".join(["descriptor=a=b"] * 65), "64 at most"),
        ("?domain=&descriptor=a=b", "domain: name one; known are shop"),
    ],
)
def test_what_cannot_be_asked(mixer: Mixer, query: str, message: str) -> None:
    assert message in page(mixer, query, 400)["error"]


def test_a_look_and_reloads_do_not_disturb_one_another(mixer: Mixer) -> None:
    for limit in (6, 7):
        text = RULES.replace("requests_per_unit: 5", f"requests_per_unit: {limit}")
        mixer.reload(lambda text=text: mixer.write("limits.yaml", text))
        assert page(mixer, "?descriptor=tenant=new")["counters"][0]["limit"] == limit
    mixer.reload(lambda: mixer.write("limits.yaml", RULES))

"""The cache of decisions: bounded, no older and no more used than allowed, and counted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.instruments import FakeClock, Registry
from mixer_py.policy.cache import DecisionCache, Key, cache_key
from mixer_py.policy.cache_key import hash_secret, readable_key
from mixer_py.policy.decision import HIT, MISS, Decision, Ruling
from mixer_py.policy.settings import CacheSettings


class Held:
    """A cache with its clock and its counts."""

    def __init__(self, **keys: object) -> None:
        self.clock = FakeClock()
        self.registry = Registry()
        self.cache = DecisionCache(CacheSettings.model_validate(keys), self.registry, self.clock)

    def evicted(self, reason: str) -> float:
        family = self.registry.counter("mixer_decision_cache_evictions_total", "", ("reason",))
        return family.labels(reason).value

    def entries(self) -> float:
        return self.registry.gauge("mixer_decision_cache_entries", "").labels().value


def ruling(name: str = "", ttl: float | None = None) -> Ruling:
    return Ruling(Decision(allowed=True, rule=name, cache_ttl=ttl), "rvm", MISS)


def test_what_is_kept_is_found_as_a_hit() -> None:
    held = Held()
    key = cache_key("a/allow", "{}")
    assert held.cache.find(key) is None
    held.cache.keep(key, ruling("r"))
    assert held.cache.find(key) == Ruling(Decision(allowed=True, rule="r"), "rvm", HIT, recurs=True)
    assert held.cache.find(cache_key("b/allow", "{}")) is None
    assert held.cache.find(cache_key("a/allow", '{"a":1}')) is None
    assert held.entries() == 1


@pytest.mark.parametrize(
    ("wish", "lives"), [(None, 60.0), (5.0, 5.0), (0.5, 0.5), (600.0, 60.0), (float("inf"), 60.0), (0.0, 0.0)]
)
def test_it_is_kept_as_long_as_settings_and_policy_allow(wish: float | None, lives: float) -> None:
    held = Held(ttl="60s")
    key = cache_key("a", "{}")
    held.cache.keep(key, ruling(ttl=wish))
    assert (held.cache.find(key) is not None) == (lives > 0)
    held.clock.advance(lives * 0.99)
    assert (held.cache.find(key) is not None) == (lives > 0)
    held.clock.advance(lives * 0.01 + 1e-6)
    assert held.cache.find(key) is None
    assert len(held.cache) == held.entries() == 0
    assert held.evicted("ttl") == (lives > 0)


def test_setting_the_clock_of_the_machine_keeps_nothing_longer() -> None:
    held = Held(ttl="60s")
    held.cache.keep(cache_key("a", "{}"), ruling())
    held.clock.jump(-3600)
    held.clock.advance(61)
    assert held.cache.find(cache_key("a", "{}")) is None


def test_it_is_used_as_often_as_allowed() -> None:
    held = Held(uses=2)
    key = cache_key("a", "{}")
    held.cache.keep(key, ruling())
    assert [held.cache.find(key) is not None for _ in range(4)] == [True, True, False, False]
    assert held.evicted("uses") == 1
    held.cache.keep(key, ruling())
    assert held.cache.find(key) is not None


def test_a_newer_ruling_takes_the_place_of_the_older() -> None:
    held = Held(ttl="60s")
    key = cache_key("a", "{}")
    held.cache.keep(key, ruling("old"))
    held.clock.advance(59)
    held.cache.keep(key, ruling("new"))
    held.clock.advance(59)
    found = held.cache.find(key)
    assert found is not None
    assert found.decision.rule == "new"
    assert len(held.cache) == 1


@settings(max_examples=100, deadline=None)
@given(
    capacity=st.integers(1, 5),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 8)), max_size=60),
)
def test_it_holds_the_most_recently_used_and_never_more(capacity: int, steps: list[tuple[bool, int]]) -> None:
    held = Held(entries=capacity)
    recent: list[Key] = []
    evicted = 0
    for keeps, number in steps:
        key = cache_key("a", str(number))
        if keeps:
            held.cache.keep(key, ruling(str(number)))
            evicted += key not in recent and len(recent) == capacity
            recent = [*[one for one in recent if one != key], key][-capacity:]
        else:
            assert (held.cache.find(key) is not None) == (key in recent)
            if key in recent:
                recent = [*[one for one in recent if one != key], key]
        assert len(held.cache) == held.entries() == len(recent)
    assert held.evicted("capacity") == evicted


def test_long_keys_are_kept_as_digests() -> None:
    short, long, other = "x" * 256, "x" * 257, "x" * 256 + "y"
    assert cache_key("a", short) == ("a", short)
    path, digest = cache_key("a", long)
    assert path == "a"
    assert isinstance(digest, bytes)
    assert len(digest) == 32
    assert cache_key("a", long) == cache_key("a", "x" * 257)
    assert cache_key("a", long) != cache_key("a", other)


def test_a_readable_key_tells_no_secret() -> None:
    secrets = {
        "authorization": "Bearer s3cr3t",
        "cookie": "sid=s3cr3t",
        "x-api-key": "s3cr3t",
        "x-auth-token": "s3cr3t",
        "proxy-authorization": "Basic s3cr3t",
    }
    document = {
        "attributes": {
            "request": {
                "http": {
                    "headers": {**secrets, "x-tenant": "blue", "referer": "https://a/?access_token=s3cr3t&b=1"},
                    "path": "/a?token=s3cr3t&page=2",
                    "query": "token=s3cr3t&page=2",
                    "body": "password=s3cr3t",
                }
            },
            "contextExtensions": {"client_secret": "s3cr3t", "route": "r"},
        },
        "parsed_query": {"token": ["s3cr3t"], "page": ["2"]},
        "parsed_body": {"password": "s3cr3t", "list": [{"apiKey": "s3cr3t"}], "n": 1},
        "parsed_path": ["a"],
    }
    shown = readable_key(document)
    assert "s3cr3t" not in str(shown)
    assert isinstance(shown, dict)
    assert shown["attributes"]["request"]["http"]["path"] == f"/a?token={hash_secret('s3cr3t')}&page=2"
    assert shown["attributes"]["request"]["http"]["headers"]["x-tenant"] == "blue"
    assert shown["attributes"]["request"]["http"]["headers"]["authorization"] == hash_secret("Bearer s3cr3t")
    assert shown["attributes"]["contextExtensions"]["route"] == "r"
    assert shown["parsed_query"]["page"] == ["2"]
    assert shown["parsed_body"]["n"] == 1
    assert hash_secret("a") == hash_secret("a") != hash_secret("b")

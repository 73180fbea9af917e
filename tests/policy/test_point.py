"""A decision from request to ruling: what is evaluated, what comes from the cache, and what people are told of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mixer_py.errors import RequestParseError, ResultError, UndefinedDecisionError
from mixer_py.policy.cache_key import hash_secret
from mixer_py.policy.decision import BYPASS, HIT, MISS
from mixer_py.policy.point import DecisionPoint
from mixer_py.policy.policy import Policy
from mixer_py.policy.result import read_result

TENANTS = """package envoy.authz

import rego.v1
import input.attributes.request.http as http

default allow := false

allow if {
	http.headers["x-tenant"] == data.tenant
	not http.headers["x-blocked"]
	input.parsed_path[0] == "a"
}
"""


class Counting:
    """Counts evaluations."""

    def __init__(self) -> None:
        self.count = 0

    def begin(self) -> None:
        self.count += 1

    def end(self) -> None:
        """Nothing to count."""


@pytest.fixture
def watch() -> Counting:
    return Counting()


@pytest.fixture
def point(load: Callable[..., Policy], watch: Counting) -> Callable[..., DecisionPoint]:
    """The default decision of a policy, with no evaluation counted yet."""

    def make(policy: str, **settings: Any) -> DecisionPoint:
        files = {"policy.rego": policy, "data.json": '{"tenant": "blue"}'}
        (*_, default) = load(files, watch=watch, **settings).points
        assert isinstance(default, DecisionPoint)
        watch.count = 0
        return default

    return make


async def test_what_is_not_read_does_not_count(point, watch: Counting, make_request) -> None:
    tenants = point(TENANTS)
    blue = {"x-tenant": "blue"}
    asked = [
        (make_request("/a/b?q=1", headers=blue | {"x-request-id": "1"}), True, MISS),
        (make_request("/a/b?q=2", "POST", headers=blue | {"x-request-id": "2"}), True, HIT),
        (make_request("/a/c", headers=blue), True, MISS),
        (make_request("/a/b", headers=blue | {"x-blocked": ""}), False, MISS),
        (make_request("/a/b", headers={"x-tenant": "red"}), False, MISS),
        (make_request("/a/b"), False, MISS),
        (make_request("/a/b", headers={"x-request-id": "3"}), False, MISS),  # headers that are there, but empty
        (make_request("/a/b", headers={"x-request-id": "4"}), False, HIT),
    ]
    for request, allowed, cache in asked:
        ruling = await tenants.decide(request)
        assert (ruling.decision.allowed, ruling.cache) == (allowed, cache)
        assert ruling.tier == tenants.tier
        assert ruling.decision.rule == "data.envoy.authz.allow"
    assert watch.count == sum(cache == MISS for _, _, cache in asked)


@pytest.mark.parametrize(
    ("policy", "settings"),
    [
        ("package envoy.authz\nimport rego.v1\nallow if time.now_ns() > 0\n", {}),
        ("package envoy.authz\nimport rego.v1\nallow if count(input) > 0\n", {}),
        (TENANTS, {"cache": {"entries": 0}}),
        (TENANTS, {"cache": {"ttl": "0s"}}),
    ],
)
async def test_what_must_not_be_kept_is_not(policy: str, settings, point, watch: Counting, make_request) -> None:
    uncached = point(policy, **settings)
    for _ in range(2):
        assert (await uncached.decide(make_request("/"))).cache == BYPASS
    assert watch.count == 2
    assert not uncached.explain().cached


async def test_a_result_that_came_before_is_the_very_decision_that_was_read_then(
    point, watch: Counting, make_request
) -> None:
    named = point(
        'package envoy.authz\n\nallow := {"allowed": true, "headers": {"x-path": p}} if p := input.parsed_path[0]\n',
        cache={"entries": 0},
    )
    first, other, again = [await named.decide(make_request(path)) for path in ("/a", "/b", "/a?x=1")]
    assert again.decision is first.decision
    assert other.decision.headers == (("x-path", "b"),)
    assert watch.count == 3, "each was evaluated"
    assert first.recurs
    assert not (await named.decide(make_request("/" + "a" * 5000))).recurs, "a long result is not held"
    for number in range(1500):
        assert (await named.decide(make_request(f"/{number}"))).decision.headers == (("x-path", str(number)),)
    assert len(named._known) <= 1000


async def test_a_policy_shortens_its_time(point, make_request) -> None:
    wishes = 'package envoy.authz\n\nallow := {"allowed": true, "cache_ttl": input.parsed_query.ttl[0]}\n'
    wished = point(wishes)
    for ttl, kept in (("0s", MISS), ("1h", HIT)):
        request = make_request(f"/?ttl={ttl}")
        assert [(await wished.decide(request)).cache for _ in range(2)] == [MISS, kept]


async def test_errors_are_not_kept(point, watch: Counting, make_request) -> None:
    for policy, error in (
        ('allow := "yes" if input.parsed_path', ResultError),
        ("allow if input.nothing", UndefinedDecisionError),
    ):
        failing = point(f"package envoy.authz\nimport rego.v1\n{policy}\n")
        for _ in range(2):
            with pytest.raises(error):
                await failing.decide(make_request("/"))
        assert watch.count == 2


async def test_a_bad_request_is_refused_though_its_decision_is_kept(point, make_request) -> None:
    method = point('package envoy.authz\nimport rego.v1\nallow if input.attributes.request.http.method == "GET"\n')
    assert [(await method.decide(make_request("/"))).cache for _ in range(2)] == [MISS, HIT]
    for bad in (
        make_request("/%zz"),
        make_request("/?a;b"),
        make_request("/", headers={"content-type": "application/json"}, body="{"),
    ):
        with pytest.raises(RequestParseError):
            await method.decide(bad)


async def test_a_revision_starts_with_an_empty_cache(load, make_request) -> None:
    for _ in range(2):
        policy = load(TENANTS.replace("data.tenant", '"blue"'))
        request = make_request("/a")
        assert (await policy.select(request).decide(request)).cache == MISS


async def test_decisions_do_not_share_what_they_keep(load, make_request) -> None:
    modules = "package {}\nimport rego.v1\nallow := {} if input.parsed_path\n"
    policy = load(
        {"a.rego": modules.format("a", "true"), "b.rego": modules.format("b", "false")},
        decision="a/allow",
        decisions=[{"name": "second", "path": "b/allow", "match": {"hosts": ["b.example"]}}],
    )
    first, second = make_request("/"), make_request("/")
    first.attributes.request.http.host, second.attributes.request.http.host = "a.example", "b.example"
    for cache in (MISS, HIT):
        for request, allowed in ((first, True), (second, False)):
            ruling = await policy.select(request).decide(request)
            assert (ruling.decision.allowed, ruling.cache) == (allowed, cache)


def test_it_says_what_it_reads_and_keeps(point, make_request) -> None:
    tenants = point(TENANTS)
    request = make_request("/a/b", headers={"x-tenant": "blue", "authorization": "Basic c2VjcmV0"})
    said = tenants.explain(request)
    http = "input.attributes.request.http"
    assert said.reads == (f'{http}.headers["x-blocked"]', f'{http}.headers["x-tenant"]', "input.parsed_path")
    assert (said.path, said.cacheable, said.cached, said.why) == ("envoy/authz/allow", True, True, "")
    headers = {"x-tenant": "blue"}
    assert said.key == {"attributes": {"request": {"http": {"headers": headers}}}, "parsed_path": ["a", "b"]}
    assert tenants.describe() == {"tier": tenants.tier, "reads": list(said.reads), "cached": True, "why": ""}
    header = "package envoy.authz\nimport rego.v1\nallow if input.attributes.request.http.headers.authorization\n"
    key = point(header).explain(request).key
    assert key["attributes"]["request"]["http"]["headers"] == {"authorization": hash_secret("Basic c2VjcmV0")}


def test_it_says_why_it_keeps_nothing(point, make_request) -> None:
    whole = point("package envoy.authz\nimport rego.v1\n\nallow if count(input) > 0\n")
    said = whole.explain(make_request("/"))
    assert (said.reads, said.cacheable, said.cached, said.key) == (None, False, False, None)
    assert "policy.rego:4: reads `input` as a whole" in said.why
    assert whole.describe()["reads"] == ["input"]
    clock = point("package envoy.authz\nimport rego.v1\n\nallow if time.now_ns() > 0\n")
    assert "policy.rego:4: the answer of time.now_ns is not always the same" in clock.explain().why


def test_the_tier_tells_what_the_engine_was_given(point) -> None:
    part = point("package envoy.authz\nimport rego.v1\nallow if input.parsed_path\n")
    whole = point("package envoy.authz\nimport rego.v1\nallow if count(input) > 0\n")
    assert part.tier in {"rvm_projected", "interpreter"}
    assert whole.tier in {"rvm", "interpreter"}


@pytest.mark.parametrize(
    ("ttl", "seconds"), [(0, 0.0), (5, 5.0), (0.25, 0.25), ("0s", 0.0), ("1m30s", 90.0), ("250ms", 0.25)]
)
def test_cache_ttl_of_a_result(ttl: object, seconds: float) -> None:
    for allowed in (True, False):
        assert read_result({"allowed": allowed, "cache_ttl": ttl}, "r").cache_ttl == seconds
    assert read_result({"allowed": True}, "r").cache_ttl is None


@pytest.mark.parametrize("ttl", [None, True, [], {}, -1, -0.5, "", "5", "soon", "-5s"])
def test_a_wrong_cache_ttl(ttl: object) -> None:
    with pytest.raises(ResultError, match=r"^result\.cache_ttl: must be a number of seconds"):
        read_result({"allowed": True, "cache_ttl": ttl}, "r")

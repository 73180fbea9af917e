"""The explanation of a match tells what the match does. How people see it: `tests/cli/test_limits.py`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.ratelimit.explaining.descriptors import WrittenEntry, parse_descriptor
from mixer_py.ratelimit.explaining.explanation import Explanation, explain
from mixer_py.ratelimit.rules import Rules

RULES = Rules.parse(
    [
        (
            "rules.yaml",
            b"""\
domain: shop
descriptors:
  - key: tenant
    value: gold
    descriptors:
      - key: path
        value: /checkout
        rate_limit: {unit: second, requests_per_unit: 5}
  - key: tenant
    rate_limit: {unit: minute, requests_per_unit: 100}
  - key: path
    value: /api/*
    rate_limit: {unit: day, requests_per_unit: 1}
  - key: path
    value: "*/items"
    rate_limit: {unlimited: true}
""",
        )
    ]
)


def explained(text: str, domain: str = "shop") -> Explanation:
    return explain(RULES, domain, parse_descriptor(text))


def tried(explanation: Explanation) -> list[list[tuple[str, str, bool]]]:
    return [[(one.how, one.value, one.taken) for one in level.attempts] for level in explanation.levels]


def test_the_counter_is_the_one_that_is_charged() -> None:
    found = explained("tenant=silver")
    assert found.rule is not None
    assert found.rule.name == "shop/tenant"
    assert found.counter == ("shop", "fixed_window/60000000", "tenant", "silver")


def test_an_unlimited_rule_has_no_counter() -> None:
    found = explained("path=/x/items")
    assert found.rule is not None
    assert found.counter == ()
    assert tried(found) == [[("exact", "/x/items", False), ("pattern", "/api/*", False), ("pattern", "*/items", True)]]


def test_patterns_are_tried_in_the_order_of_the_file_until_one_fits() -> None:
    assert tried(explained("path=/api/items")) == [[("exact", "/api/items", False), ("pattern", "/api/*", True)]]


def test_why_nothing_matches() -> None:
    assert explained("tenant=gold", "shops").reason == "there is no domain 'shops'"
    assert explained("tenant=gold", "shops").way_out == "did you mean 'shop'?"
    assert explained("tenat=gold").reason == "level 1: no descriptor has the key 'tenat'"
    assert explained("tenat=gold").way_out == "did you mean 'tenant'?"
    assert "has no rate_limit of its own" in explained("tenant=gold").reason
    assert explained("tenant=gold").way_out == "its limits are a level deeper, at 'path'"
    assert "the rules end a level above" in explained("tenant=silver,path=/").reason
    assert "takes the value '/checkuot'" in explained("tenant=gold,path=/checkuot").reason
    assert explained("tenant=gold,path=/checkuot").way_out == "did you mean '/checkout'?"


entry = st.builds(
    WrittenEntry,
    st.sampled_from(["tenant", "path", "colour"]),
    st.sampled_from(["gold", "silver", "", "/checkout", "/api/x", "/api/items", "/items", "*"]),
)


@settings(deadline=None)
@given(st.lists(entry, min_size=1, max_size=3))
def test_it_finds_what_a_request_finds(entries: list[WrittenEntry]) -> None:
    rule, _ = RULES.domains["shop"].match(entries)
    found = explain(RULES, "shop", entries)
    assert found.rule is rule
    assert bool(found.reason) == (rule is None)

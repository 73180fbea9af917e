"""Which rule a descriptor matches, and whose counter it draws on: held against a model that is slow and plain."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixer_py.ratelimit.rules import Rule, Rules, matches, rule_name

KEYS = st.sampled_from(["a", "b", "a_b"])
VALUES = st.sampled_from(["", "x", "xy", "b_x", "x*", "*", "*y", "x*y"])
"""Of files; a value of a request may look like a pattern, too."""


@dataclass
class Level:
    """A descriptor of a file, as the model sees it."""

    key: str
    value: str
    limit: bool
    share: bool
    detailed: bool
    valued: bool
    below: list[Level] = field(default_factory=list)

    def written(self) -> dict[str, object]:
        """The same, as it stands in a file."""
        written: dict[str, object] = {"key": self.key, "detailed_metric": self.detailed, "value_to_metric": self.valued}
        if self.value:
            written["value"] = self.value
        if self.share:
            written["share_threshold"] = True
        if self.limit:
            written["rate_limit"] = {"unit": "day", "requests_per_unit": 1}
        return {**written, "descriptors": [level.written() for level in self.below]}

    def takes(self, value: str) -> bool:
        return not self.value or slow_match(self.value, value)


def slow_match(pattern: str, value: str) -> bool:
    if not pattern:
        return not value
    if pattern[0] == "*":
        return any(slow_match(pattern[1:], value[start:]) for start in range(len(value) + 1))
    return bool(value) and value[0] == pattern[0] and slow_match(pattern[1:], value[1:])


@st.composite
def levels(draw: st.DrawFn, depth: int = 2) -> list[Level]:
    pairs = draw(st.lists(st.tuples(KEYS, VALUES), unique=True, min_size=1, max_size=4))
    flags = st.booleans()
    return [
        Level(
            key, value, draw(flags), "*" in value and draw(flags), draw(flags), draw(flags),
            draw(levels(depth - 1)) if depth and draw(flags) else [],
        )
        for key, value in pairs
    ]  # fmt: skip


def walk(level: list[Level], entries: list[tuple[str, str]]) -> list[Level] | None:
    """The levels on the way to the rule: on each the exact value, else the first pattern, else the one for any."""
    way: list[Level] = []
    for key, value in entries:
        same_key = [one for one in level if one.key == key]
        exact = [one for one in same_key if one.value == value and value and "*" not in value]
        patterns = [one for one in same_key if "*" in one.value and one.takes(value)]
        otherwise = [one for one in same_key if not one.value]
        found = (exact + patterns + otherwise)[:1]
        if not found:
            return None
        way += found
        level = found[0].below
    return way if way and way[-1].limit else None


def compiled(tree: list[Level]) -> Rules:
    document = {"domain": "shop", "descriptors": [level.written() for level in tree]}
    return Rules.parse([("shop.yaml", orjson.dumps(document))])


def match(rules: Rules, entries: list[tuple[str, str]]) -> tuple[Rule | None, tuple[str, ...]]:
    return rules.domains["shop"].match([SimpleNamespace(key=key, value=value) for key, value in entries])


ENTRIES = st.lists(st.tuples(KEYS, VALUES | st.text("xyb_*", max_size=4)), max_size=4)


@given(levels(), ENTRIES)
def test_the_rule_is_the_models(tree: list[Level], entries: list[tuple[str, str]]) -> None:
    rule, _ = match(compiled(tree), entries)
    way = walk(tree, entries)
    assert (rule.path if rule else None) == (tuple((one.key, one.value) for one in way) if way else None)


@given(levels(), ENTRIES, ENTRIES)
def test_counters_are_the_same_where_the_entries_are_or_the_shared_pattern_is(
    tree: list[Level], one: list[tuple[str, str]], other: list[tuple[str, str]]
) -> None:
    """Whatever a value looks like, also like a pattern."""

    def counter(entries: list[tuple[str, str]]) -> list[tuple[str, bool, str]] | None:
        way = walk(tree, entries)
        if way is None:
            return None
        pairs = zip(way, entries, strict=True)
        return [(key, level.share, level.value if level.share else value) for level, (key, value) in pairs]

    rules = compiled(tree)
    (one_rule, one_parts), (other_rule, other_parts) = match(rules, one), match(rules, other)
    if one_rule is not None and other_rule is not None:
        assert (one_parts == other_parts) == (counter(one) == counter(other))


@given(levels(), ENTRIES)
def test_the_label_has_the_values_that_are_asked_for(tree: list[Level], entries: list[tuple[str, str]]) -> None:
    """A shared threshold goes before a value, and a descriptor that is detailed shows every level."""
    rule, parts = match(compiled(tree), entries)
    way = walk(tree, entries)
    if rule is None or way is None:
        return
    shown = [
        value if not one.share and (way[-1].detailed or one.valued) else one.value
        for one, (_, value) in zip(way, entries, strict=True)
    ]
    assert rule.label(rule.values(parts)) == rule_name("shop", zip((one.key for one in way), shown, strict=True))


def test_a_pattern_is_held_against_the_value_alone() -> None:
    """The original concatenates both, so that its pattern `*` of the key `foo` takes the key `foo_bar`, too."""
    rules = compiled([Level("foo", "*", limit=True, share=False, detailed=False, valued=False)])
    assert match(rules, [("foo", "bar_baz")])[0] is not None
    assert match(rules, [("foo_bar", "baz")])[0] is None


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("*", "", True),
        ("a*", "a", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*b*", "abc", True),
        ("*b*", "ac", False),
        ("a*b*c", "a-c-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("**", "x", True),
        ("a**b", "ab", True),
        ("x*", "yx", False),
        ("*aa*a*", "aa", False),
        ("*aa*a*", "aaa", True),
    ],
)
def test_patterns(pattern: str, value: str, expected: bool) -> None:
    assert matches(pattern.split("*"), value) is expected


@given(
    st.text("a*", max_size=7).map("*".__add__) | st.text("ab*", max_size=7).map("*".__add__), st.text("ab", max_size=8)
)
def test_patterns_match_as_the_plain_definition(pattern: str, value: str) -> None:
    assert matches(pattern.split("*"), value) == slow_match(pattern, value)

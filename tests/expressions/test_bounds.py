"""Garbage is refused, and nothing that is taken costs more than `limits` say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mixer_py.errors import ConfigurationError, ExpressionBudgetError, ExpressionError
from mixer_py.expressions import BOOL, VOCABULARY, Expression, compile_expression, limits
from tests.expressions.generated_expressions import rows, texts

PIECES = (
    *(
        "request.method",
        "request.headers",
        "request",
        "x",
        "x,",
        ".",
        ".size()",
        ".all(x, ",
        ".map(x, ",
        ".exists(",
        "has(",
    ),
    *(
        "matches(",
        '"a"',
        "'",
        '"""',
        'r"',
        "\\",
        "1",
        "-1",
        "0x",
        "1e9",
        "1.",
        "true",
        "in",
        "==",
        "<",
        "&&",
        "||",
        "!",
    ),
    *("-", "+", "*", "/", "%", "?", ":", "(", ")", "[", "]", "{", "}", ",", " ", "\n", "//", "é", "\u0000", "\ud800"),
    "9" * 30,
)


def compiled(text: str) -> Expression | None:
    try:
        return compile_expression(text, scope=VOCABULARY)
    except ConfigurationError as error:
        (fault,) = error.faults
        assert fault.message.startswith(("column", "line"))
        return None


@settings(deadline=None)
@given(st.text(max_size=200) | st.lists(st.sampled_from(PIECES), max_size=40).map("".join), rows())
@example('"' * 200, {})
@example('"""' + '"\\' * 100, {})
@example("0x" + "f" * 200, {})
@example("1e" + "9" * 200, {})
@example("(" * 16_000, {})
@example("-" * 16_000 + "1", {})
@example('request.path.matches("' + "(" * 8_000 + '")', {})
@example('request.path.matches("(((a{100}){100}){100})")', {})
@example('request.time.getHours("\\x00")', {})
@example('request.time.getHours("' + "a" * 300 + '")', {})
def test_garbage_is_refused_or_means_something(text: str, row: dict[str, Any]) -> None:
    expression = compiled(text)
    reason = ""
    if expression is not None:
        try:
            expression.evaluate(row)
        except ExpressionError as error:
            reason = error.reason
    assert reason in {"", "absent", "arithmetic", "conversion", "range", "budget"}


class Counted(dict[str, str]):
    """A map that counts how often a loop took a key of it."""

    taken = 0

    def __iter__(self) -> Iterator[str]:
        for key in super().__iter__():
            self.taken += 1
            yield key


@settings(deadline=None, max_examples=50)
@given(texts("bool", depth=3), st.integers(1, 4), st.integers(1, 60), rows())
def test_loops_never_pass_more_often_than_steps_allow(body: str, levels: int, size: int, row: dict[str, Any]) -> None:
    headers = Counted({f"h{number}": str(number) for number in range(size)})
    text = body
    for level in range(levels):
        text = f"request.headers.map(k{level}, {text}).size() > 0"
    try:
        value = compile_expression(text).evaluate(row | {"request.headers": headers})
    except ExpressionError:
        pass
    else:
        assert isinstance(value, bool)
    assert headers.taken <= limits.STEPS


MANY = {f"h{number}": "v" * 100 for number in range(200)}


@pytest.mark.parametrize(
    "text",
    [
        "request.headers.all(a, request.headers.all(b, request.headers.all(c, a + b + c != '')))",
        "request.headers.exists(a, request.headers.all(b, request.headers.exists_one(c, c == a)) && false) || true",
        "request.headers.map(a, request.headers).map(x, request.headers.all(b, x == request.headers)).size() > 0",
        "request.headers.map(k, request.path.split('')).size() > 0",
        "request.headers.map(k, request.path + request.path).size() > 0",
        'request.headers.all(a, request.path.matches("(a|aa)+b") == false)',
        'request.path.matches("(a|b)*a(a|b){50}z")',
        "request.path.replace('a', request.path) == ''",
        "request.headers.map(k, request.host).join(request.path) == ''",
    ],
)
def test_what_would_cost_too_much_is_stopped_and_no_operand_takes_its_place(text: str) -> None:
    row = {"request.headers": MANY, "request.path": "a" * 60_000, "request.host": "b" * 6_000}
    with pytest.raises(ExpressionBudgetError) as raised:
        compile_expression(f"({text}) || true", BOOL).evaluate(row)
    assert raised.value.reason == "budget"


def test_usual_loops_stay_within_their_steps() -> None:
    text = 'request.headers.filter(n, n.startsWith("h1") && request.headers[n].matches("^v+$")).size()'
    assert compile_expression(text).evaluate({"request.headers": MANY}) == 111


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', "{1: 1, 0 + 1: 2}"])
def test_a_map_has_no_key_twice(text: str) -> None:
    with pytest.raises(ExpressionError):
        compile_expression(f"size({text}) > 0").evaluate({})


@pytest.mark.parametrize("text", ["request.headers.all(a, " * 8 + "true" + ")" * 8, "[" * 2 + "]" * 2])
def test_what_is_just_small_enough_is_taken(text: str) -> None:
    assert compiled(text) is not None

"""The constants that a condition asks for: wherever an attribute has another value, the condition is false.

So many conditions can be looked up by them, in place of evaluating each in turn.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.expressions import Reference, compile_expression
from tests.expressions.generated_expressions import rows, texts

ASKED = st.sampled_from(
    ['request.method == "a"', '"ab" == request.headers["b"]', 'request.host in ["a", "b"]', "request.size == 7", "true"]
)


def held(row: dict[str, Any], reference: Reference) -> Any:
    value = row.get(reference.attribute)
    return value if reference.key is None or value is None else value.get(reference.key)


@settings(deadline=None, max_examples=150)
@given(st.lists(ASKED, min_size=1, max_size=3), texts("bool", depth=2), rows())
def test_a_condition_is_false_where_another_value_stands(asked: list[str], rest: str, row: dict[str, Any]) -> None:
    condition = compile_expression(" && ".join((*asked, rest)))
    for reference, constants in condition.equalities.items():
        value = held(row, reference)
        if value is not None and value not in constants:
            assert condition.evaluate(row) is False


def test_only_what_a_conjunction_asks_for_is_asked() -> None:
    condition = compile_expression(
        'request.method in ["GET", "POST"] && "gold" == request.headers["x-tenant"] && request.size > 1 '
        '&& (request.host == "a" || request.host == "b") && request.method in ["POST", "PUT"]'
    )
    assert dict(condition.equalities) == {
        Reference("request.method"): {"POST"},
        Reference("request.headers", "x-tenant"): {"gold"},
    }
    for text in ('request.method == "GET" || request.host == "a"', '!(request.method == "GET")', 'request.host != "a"'):
        assert not compile_expression(text).equalities


def test_constants_that_exclude_one_another_leave_none() -> None:
    condition = compile_expression('request.method == "GET" && request.method == "PUT"')
    assert dict(condition.equalities) == {Reference("request.method"): frozenset()}

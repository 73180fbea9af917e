"""Conditions that may hold are found by the constants they ask for; no other condition is true."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mixer_py.errors import ExpressionError
from mixer_py.expressions import Expression, Selection, compile_expression
from tests.expressions.generated_expressions import rows, texts


def selection(*conditions: str) -> Selection:
    return Selection([compile_expression(condition) for condition in conditions])


def test_of_many_tenants_one_is_left() -> None:
    found = selection(
        *(f'request.headers["x-tenant"] == "t{number}" && request.method == "POST"' for number in range(1_000)),
        "request.size > 10",
    ).select({"request.headers": {"x-tenant": "t7"}, "request.method": "POST"})
    assert (list(found.possible), list(found.lacking)) == ([7, 1_000], [])


def test_conditions_on_what_is_absent_are_told_apart() -> None:
    found = selection('request.host == "a"', 'request.method == "GET"', 'request.host == "b"').select(
        {"request.method": "GET"}
    )
    assert (list(found.possible), list(found.lacking)) == ([1], [0, 2])


def test_a_condition_that_no_value_can_meet_is_never_possible() -> None:
    found = selection('request.host == "a" && request.host == "b"', "request.host in []")
    assert not found.select({"request.host": "a"}).possible


def outcome(condition: Expression, row: dict[str, Any]) -> Any:
    try:
        return condition.evaluate(row)
    except ExpressionError:
        return "failed"


@settings(deadline=None, max_examples=60)
@given(st.lists(texts("bool", depth=2), max_size=6), rows(), st.data())
def test_what_is_not_selected_is_false_and_what_is_lacking_is_never_true(
    conditions: list[str], row: dict[str, Any], data: st.DataObject
) -> None:
    asked = st.sampled_from(['request.method == "a"', '"ab" == request.headers["b"]', 'request.host in ["a", "b"]'])
    whole = [compile_expression(f"{data.draw(asked)} && {condition}") for condition in conditions]
    found = Selection(whole).select(row)
    for number, condition in enumerate(whole):
        value = outcome(condition, row)
        if number in found.lacking:
            assert value is not True
        elif number not in found.possible:
            assert value is False

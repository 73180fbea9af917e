"""CEL's own conformance cases: what mixer takes it answers as CEL does; what it does not take it refuses at load."""

from __future__ import annotations

from collections import Counter

import pytest

from mixer_py.errors import ConfigurationError, ExpressionError
from mixer_py.expressions import Scope, compile_expression
from tests.expressions.conformance_cases import ERROR, UNCOMPARABLE, Case, cases
from tests.parts.cel_module import find_cel_module

LEAST_ANSWERED = 640
"""Cases answered as CEL answers them, of the about 1,800 that give the expression nothing but itself."""


def outcome(case: Case) -> str:
    try:
        expression = compile_expression(case.text, scope=Scope({}))
    except ConfigurationError:
        return "answered" if case.wanted is ERROR else "refused"
    try:
        value = expression.evaluate({})
    except ExpressionError:
        return "answered" if case.wanted is ERROR else "wrong"
    if case.wanted is UNCOMPARABLE:
        return "uncomparable"
    return "answered" if type(value) is type(case.wanted) and value == case.wanted else "wrong"


@pytest.mark.cel_module
def test_no_case_of_cel_has_another_answer_here() -> None:
    module = find_cel_module()
    assert module is not None
    found = {case.name: (outcome(case), case.text) for case in cases(module) if not case.needs}
    assert [(name, text) for name, (what, text) in found.items() if what in {"wrong", "uncomparable"}] == []
    assert Counter(what for what, _ in found.values())["answered"] >= LEAST_ANSWERED

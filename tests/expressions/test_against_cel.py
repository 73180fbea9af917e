"""Expressions made up at random have the value that Google's CEL gives them, or fail where it fails."""

from __future__ import annotations

from typing import Any

import pytest
from cel_expr_python import cel
from cel_expr_python.ext import ext_strings
from hypothesis import given, settings

from mixer_py.errors import ExpressionError
from mixer_py.expressions import compile_expression
from tests.expressions.generated_expressions import rows, texts

FAILED = "failed"


@pytest.fixture(scope="module")
def environment() -> cel.Env:
    string = cel.Type.STRING
    variables = {"request.method": string, "request.host": string, "request.size": cel.Type.INT,
                 "request.headers": cel.Type.Map(string, string)}  # fmt: skip
    return cel.NewEnv(variables=variables, extensions=[ext_strings.ExtStrings()])


def ours(text: str, row: dict[str, Any]) -> Any:
    try:
        return compile_expression(text).evaluate(row)
    except ExpressionError:
        return FAILED


def theirs(environment: cel.Env, text: str, row: dict[str, Any]) -> Any:
    value = environment.compile(text).eval(data=row)
    return FAILED if value.type() == cel.Type.ERROR else value.plain_value()


@settings(deadline=None, max_examples=150)
@given(texts("bool"), rows())
def test_conditions(environment: cel.Env, text: str, row: dict[str, Any]) -> None:
    assert ours(text, row) == theirs(environment, text, row)


@settings(deadline=None, max_examples=150)
@given(texts("int"), rows())
def test_amounts(environment: cel.Env, text: str, row: dict[str, Any]) -> None:
    assert ours(text, row) == theirs(environment, text, row)


@settings(deadline=None, max_examples=150)
@given(texts("string"), rows())
def test_keys(environment: cel.Env, text: str, row: dict[str, Any]) -> None:
    assert ours(text, row) == theirs(environment, text, row)

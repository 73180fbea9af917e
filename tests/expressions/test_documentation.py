"""docs/expressions.md is true: its examples are evaluated, it names every function, and its limits are ours."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest
from google.protobuf import json_format

from mixer_py.attributes.bag import Bag
from mixer_py.errors import ConfigurationError, ExpressionError
from mixer_py.expressions import compile_expression, limits
from mixer_py.expressions.functions import FUNCTIONS, METHODS, OPERATORS
from mixer_py.expressions.macros import LOOPS
from tests.parts.presence import ROOT
from tests.project.documents import blocks

PAGE = ROOT / "docs" / "expressions.md"
TEXT = PAGE.read_text(encoding="utf-8")


def examples(kind: str) -> Iterator[tuple[str, str]]:
    """The rows of tables whose second column is of that name."""
    inside = False
    for line in TEXT.splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[:1] == ["expression"]:
            inside = cells[1] == kind
        elif not cells:
            inside = False
        elif inside and not cells[0].startswith("---"):
            yield cells[0].strip("`"), cells[1].strip("`")


@pytest.fixture(scope="module")
def check() -> Bag:
    (block,) = (block for block in blocks(PAGE) if block.language == "json")
    return Bag(json_format.Parse(block.text, CheckRequest()).attributes)


@pytest.mark.parametrize(("text", "value"), list(examples("value")))
def test_an_example_has_its_value(text: str, value: str, check: Bag) -> None:
    wanted: Any = json.loads(value)
    found = compile_expression(text).evaluate(check)
    assert (type(found), found) == (type(wanted), wanted)


@pytest.mark.parametrize(("text", "reason"), list(examples("fails")))
def test_an_example_fails_for_its_reason(text: str, reason: str, check: Bag) -> None:
    expression = compile_expression(text)
    with pytest.raises(ExpressionError) as raised:
        expression.evaluate(check)
    assert raised.value.reason == reason


@pytest.mark.parametrize(("text", "message"), list(examples("refused")))
def test_an_example_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        compile_expression(text)
    assert message in str(raised.value)


def test_the_page_has_examples_of_each_kind() -> None:
    assert all(len(list(examples(kind))) >= 5 for kind in ("value", "fails", "refused"))


def test_the_page_names_all_that_can_be_called() -> None:
    rows = (line.replace("\\|", "|") for line in TEXT.splitlines() if line.startswith("|"))
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert {*FUNCTIONS, *METHODS, *LOOPS, *(OPERATORS.keys() - {"-_"})} - named == set()


@pytest.mark.parametrize(
    "figure",
    [limits.TEXT, limits.PARTS, limits.NESTING, limits.BLOCKS, limits.PATTERN_SIZE, limits.STEPS, limits.CHARACTERS,
     limits.STEP_CHARACTERS, limits.PATTERN_CHARACTERS],
)  # fmt: skip
def test_the_page_states_the_limits(figure: int) -> None:
    assert re.search(rf"(?<![\d,]){figure:,}(?![\d,])", TEXT)

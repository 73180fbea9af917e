"""Asks the embedded engine and a real OPA the same, by single expressions or by one expression over many values."""

from __future__ import annotations

import asyncio
import json

from mixer_py.errors import EvaluationError, UndefinedDecisionError
from mixer_py.policy.bundles.bundle import Bundle, Module
from mixer_py.policy.engines.embedded import EmbeddedEngine
from mixer_py.policy.engines.protocol import NoWatch
from tests.parts.opa_server import Answer, Opa


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


def ask_both(opa: Opa, expression: str) -> tuple[str, str]:
    """What the embedded engine and OPA say; `true` is not `1`, and `1` is `1.0`."""
    module = f"package single\n\nvalue := {expression}\n"
    with opa.holding(module, "{}"):
        theirs = opa.evaluate("single/value", "{}")
    return plain(evaluate(module)), plain(theirs)


def evaluate(module: str) -> Answer:
    engine = EmbeddedEngine(Bundle((Module("single.rego", module),), {}, (), ""), ["single/value"], NoWatch())
    try:
        return Answer("value", asyncio.run(engine.evaluate("single/value", "{}")).value)
    except UndefinedDecisionError:
        return Answer("undefined")
    except EvaluationError:
        return Answer("error")


def plain(answer: Answer) -> str:
    value = answer.value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return f"{answer.kind} {json.dumps(value, sort_keys=True)}"


def ask_all(opa: Opa, value: str, documents: list[object]) -> list[tuple[object, str]]:
    """The documents for which the engines' values of an expression over `c` differ, with what each says."""
    module = f"package single\n\nvalue := [x | some c in input; x := one(c)]\n\ndefault one(_) := null\n\n{value}\n"
    engine = EmbeddedEngine(Bundle((Module("single.rego", module),), {}, (), ""), ["single/value"], NoWatch())
    text = json.dumps(documents)
    ours = asyncio.run(engine.evaluate("single/value", text)).value
    with opa.holding(module, "{}"):
        theirs = opa.evaluate("single/value", text).value
    assert isinstance(ours, list)
    assert isinstance(theirs, list)
    assert len(ours) == len(theirs) == len(documents)
    return [
        (document, f"{mine} {opas}")
        for document, mine, opas in zip(documents, ours, theirs, strict=True)
        if plain(Answer("value", mine)) != plain(Answer("value", opas))
    ]
